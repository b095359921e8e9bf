"""BibTeX entries to cite for a method.

Full titles and authors of the published systems are listed here, everything else (identifiers, year) comes from the
method's `MethodInfo`; of a method that is not listed, e.g. a plug-in's, that alone makes the entry.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["Cited", "Entry", "OWN", "method_entries"]


class Cited(NamedTuple):
    """What an entry needs of `anymri.protocol.method.MethodInfo`, under the same names."""

    title: str
    year: int
    reference: str
    doi: str
    arxiv: str
    code: str


@dataclass(frozen=True)
class Entry:
    """One BibTeX entry.

    Parameters
    ----------
    kind : str
        Entry type, e.g. ``"article"``.
    key : str
    fields : dict of str to str
        In the order they are written; values as BibTeX takes them, without the outer braces.
    """

    kind: str
    key: str
    fields: Mapping[str, str]

    def bibtex(self) -> str:
        """The entry as text."""
        width = max(map(len, self.fields))
        lines = [f"  {name:<{width}} = {{{value}}}," for name, value in self.fields.items()]
        return "\n".join([f"@{self.kind}{{{self.key},", *lines, "}"])


#: The program itself, as CITATION.cff has it; the version is added.
OWN = {
    "author": "{The anymri authors}",
    "title": "{anymri}: brain {MRI} with missing sequences",
    "license": "Apache-2.0",
}

_MICCAI = "Medical Image Computing and Computer Assisted Intervention ({MICCAI})"
_MIDL = "Proceedings of Medical Imaging with Deep Learning ({MIDL})"
_TMI = "{IEEE} Transactions on Medical Imaging"

#: Key to type, authors, title, where, and further fields.
_PAPERS: dict[str, tuple[str, str, str, dict[str, str]]] = {
    "wang2021acn": (
        "inproceedings",
        (
            "Wang, Yixin and Zhang, Yang and Liu, Yang and Lin, Zihao and Tian, Jiang and Zhong, Cheng and Shi, "
            "Zhongchao and Fan, Jianping and He, Zhiqiang"
        ),
        "{ACN}: Adversarial Co-training Network for Brain Tumor Segmentation with Missing Modalities",
        {"booktitle": _MICCAI, "pages": "410--420"},
    ),
    "vadacchino2021hadnet": (
        "inproceedings",
        (
            "Vadacchino, Saverio and Mehta, Raghav and Sepahvand, Nazanin Mohammadi and Nichyporuk, Brennan and Clark, "
            "James J. and Arbel, Tal"
        ),
        (
            "{HAD-Net}: A Hierarchical Adversarial Knowledge Distillation Network for Improved Enhanced Tumour "
            "Segmentation Without Post-Contrast Images"
        ),
        {"booktitle": _MIDL, "pages": "787--801"},
    ),
    "hu2020kdnet": (
        "inproceedings",
        (
            "Hu, Minhao and Maillard, Matthis and Zhang, Ya and Ciceri, Tommaso and La Barbera, Giammarco and Bloch, "
            "Isabelle and Gori, Pietro"
        ),
        "Knowledge Distillation from Multi-modal to Mono-modal Segmentation Networks",
        {"booktitle": _MICCAI, "pages": "772--781"},
    ),
    "wang2020kddnet": (
        "inproceedings",
        "Wang, Qi and Zhan, Liang and Thompson, Paul and Zhou, Jiayu",
        "Multimodal Learning with Incomplete Modalities by Knowledge Distillation",
        {"booktitle": "{ACM} {SIGKDD} Conference on Knowledge Discovery and Data Mining", "pages": "1828--1838"},
    ),
    "choi2023singlestage": (
        "article",
        (
            "Choi, Yoonseok and Al-masni, Mohammed A. and Jung, Kyu-Jin and Yoo, Roh-Eul and Lee, Seong-Yeong and Kim, "
            "Dong-Hyun"
        ),
        "A Single Stage Knowledge Distillation Network for Brain Tumor Segmentation on Limited {MR} Image Modalities",
        {"journal": "Computer Methods and Programs in Biomedicine", "volume": "240", "pages": "107644"},
    ),
    "zhou2021fgmf": (
        "article",
        "Zhou, Tongxue and Canu, St{\\'e}phane and Vera, Pierre and Ruan, Su",
        (
            "Feature-enhanced Generation and Multi-modality Fusion Based Deep Neural Network for Brain Tumor "
            "Segmentation with Missing {MR} Modalities"
        ),
        {"journal": "Neurocomputing", "volume": "466", "pages": "102--112"},
    ),
    "havaei2016hemis": (
        "inproceedings",
        "Havaei, Mohammad and Guizard, Nicolas and Chapados, Nicolas and Bengio, Yoshua",
        "{HeMIS}: Hetero-Modal Image Segmentation",
        {"booktitle": _MICCAI, "pages": "469--477"},
    ),
    "yu2018cgan": (
        "inproceedings",
        "Yu, Biting and Zhou, Luping and Wang, Lei and Fripp, Jurgen and Bourgeat, Pierrick",
        "{3D} {cGAN} Based Cross-Modality {MR} Image Synthesis for Brain Tumor Segmentation",
        {"booktitle": "{IEEE} International Symposium on Biomedical Imaging ({ISBI})", "pages": "626--630"},
    ),
    "cho2024hfgan": (
        "misc",
        "Cho, Jihoon and Woo, Jonghye and Park, Jinah",
        "Principled Feature Disentanglement for High-Fidelity Unified Brain {MRI} Synthesis",
        {"eprint": "2406.14954", "archiveprefix": "arXiv"},
    ),
    "zhou2020hinet": (
        "article",
        "Zhou, Tao and Fu, Huazhu and Chen, Geng and Shen, Jianbing and Shao, Ling",
        "{Hi-Net}: Hybrid-Fusion Network for Multi-Modal {MR} Image Synthesis",
        {"journal": _TMI, "volume": "39", "number": "9", "pages": "2772--2781"},
    ),
    "liu2023m3ae": (
        "inproceedings",
        "Liu, Hong and Wei, Dong and Lu, Donghuan and Sun, Jinghan and Wang, Liansheng and Zheng, Yefeng",
        "{M3AE}: Multimodal Representation Learning for Brain Tumor Segmentation with Missing Modalities",
        {
            "booktitle": "Proceedings of the {AAAI} Conference on Artificial Intelligence",
            "volume": "37",
            "pages": "1657--1665",
            "doi": "10.1609/aaai.v37i2.25253",
        },
    ),
    "hamghalam2021mgpvae": (
        "inproceedings",
        "Hamghalam, Mohammad and Frangi, Alejandro F. and Lei, Baiying and Simpson, Amber L.",
        (
            "Modality Completion via {Gaussian} Process Prior Variational Autoencoders for Multi-Modal Glioma "
            "Segmentation"
        ),
        {"booktitle": _MICCAI},
    ),
    "sharma2020mmgan": (
        "article",
        "Sharma, Anmol and Hamarneh, Ghassan",
        "Missing {MRI} Pulse Sequence Synthesis Using Multi-Modal Generative Adversarial Network",
        {"journal": _TMI, "volume": "39", "number": "4", "pages": "1170--1183"},
    ),
    "karimijafarbigloo2023mmcformer": (
        "inproceedings",
        "Karimijafarbigloo, Sanaz and Azad, Reza and Kazerouni, Amirhossein and Ebadollahi, Saeed and Merhof, Dorit",
        "{MMCFormer}: Missing Modality Compensation Transformer for Brain Tumor Segmentation",
        {
            "booktitle": _MIDL,
            "series": "Proceedings of Machine Learning Research",
            "volume": "227",
            "pages": "1144--1162",
        },
    ),
    "zhang2022mmformer": (
        "inproceedings",
        (
            "Zhang, Yao and He, Nanjun and Yang, Jiawei and Li, Yuexiang and Wei, Dong and Huang, Yawen and Zhang, "
            "Yang and He, Zhiqiang and Zheng, Yefeng"
        ),
        "{mmFormer}: Multimodal Medical Transformer for Incomplete Multimodal Learning of Brain Tumor Segmentation",
        {"booktitle": _MICCAI, "pages": "107--117"},
    ),
    "zhang2021maml": (
        "inproceedings",
        (
            "Zhang, Yao and Yang, Jiawei and Tian, Jiang and Shi, Zhongchao and Zhong, Cheng and Zhang, Yang and "
            "He, Zhiqiang"
        ),
        "Modality-aware Mutual Learning for Multi-modal Medical Image Segmentation",
        {"booktitle": _MICCAI, "pages": "589--599"},
    ),
    "sylvain2021cmim": (
        "inproceedings",
        (
            "Sylvain, Tristan and Dutil, Francis and Berthier, Tess and Di Jorio, Lisa and Luck, Margaux and "
            "Hjelm, R. Devon and Bengio, Yoshua"
        ),
        "{CMIM}: Cross-Modal Information Maximization For Medical Imaging",
        {"booktitle": "{IEEE} International Conference on Acoustics, Speech and Signal Processing ({ICASSP})"},
    ),
    "zhou2021lcenet": (
        "article",
        "Zhou, Tongxue and Canu, Stéphane and Vera, Pierre and Ruan, Su",
        "Latent Correlation Representation Learning for Brain Tumor Segmentation with Missing {MRI} Modalities",
        {"journal": "{IEEE} Transactions on Image Processing", "volume": "30", "pages": "4263--4274"},
    ),
    "zhou2021cgmcg": (
        "misc",
        "Zhou, Tongxue and Canu, Stéphane and Vera, Pierre and Ruan, Su",
        (
            "Conditional Generator and Multi-source Correlation Guided Brain Tumor Segmentation with Missing {MR} "
            "Modalities"
        ),
        {},
    ),
    "isensee2021nnunet": (
        "article",
        "Isensee, Fabian and Jaeger, Paul F. and Kohl, Simon A. A. and Petersen, Jens and Maier-Hein, Klaus H.",
        "{nnU-Net}: a self-configuring method for deep learning-based biomedical image segmentation",
        {"journal": "Nature Methods", "volume": "18", "number": "2", "pages": "203--211"},
    ),
    "varsavsky2018pimms": (
        "inproceedings",
        "Varsavsky, Thomas and Eaton-Rosen, Zach and Sudre, Carole H. and Nachev, Parashkev and Cardoso, M. Jorge",
        "{PIMMS}: Permutation Invariant Multi-modal Segmentation",
        {"booktitle": "Deep Learning in Medical Image Analysis ({DLMIA})"},
    ),
    "jog2017replica": (
        "article",
        "Jog, Amod and Carass, Aaron and Roy, Snehashis and Pham, Dzung L. and Prince, Jerry L.",
        "Random forest regression for magnetic resonance image synthesis",
        {"journal": "Medical Image Analysis", "volume": "35", "pages": "475--488"},
    ),
    "dalmaz2022resvit": (
        "article",
        "Dalmaz, Onat and Yurt, Mahmut and {\\c{C}}ukur, Tolga",
        "{ResViT}: Residual Vision Transformers for Multimodal Medical Image Synthesis",
        {"journal": _TMI, "volume": "41", "number": "10", "pages": "2598--2614"},
    ),
    "ding2021rfnet": (
        "inproceedings",
        "Ding, Yuhang and Yu, Xin and Yang, Yi",
        "{RFNet}: Region-aware Fusion Network for Incomplete Multi-modal Brain Tumor Segmentation",
        {"booktitle": "{IEEE/CVF} International Conference on Computer Vision ({ICCV})", "pages": "3955--3964"},
    ),
    "chen2019robustseg": (
        "inproceedings",
        "Chen, Cheng and Dou, Qi and Jin, Yueming and Chen, Hao and Qin, Jing and Heng, Pheng-Ann",
        "Robust Multimodal Brain Tumor Segmentation via Feature Disentanglement and Gated Fusion",
        {"booktitle": _MICCAI, "pages": "447--456"},
    ),
    "mehta2018rsnet": (
        "inproceedings",
        "Mehta, Raghav and Arbel, Tal",
        (
            "{RS-Net}: Regression-Segmentation {3D} {CNN} for Synthesis of Full Resolution Missing Brain {MRI} in the "
            "Presence of Tumours"
        ),
        {"booktitle": "Simulation and Synthesis in Medical Imaging ({SASHIMI})"},
    ),
    "shen2019missing": (
        "inproceedings",
        "Shen, Yan and Gao, Mingchen",
        "Brain Tumor Segmentation on {MRI} with Missing Modalities",
        {"booktitle": "Information Processing in Medical Imaging ({IPMI})"},
    ),
    "azad2022smunet": (
        "inproceedings",
        "Azad, Reza and Khosravi, Nika and Merhof, Dorit",
        "{SMU-Net}: Style matching {U-Net} for brain tumor segmentation with missing modalities",
        {"booktitle": _MIDL, "series": "Proceedings of Machine Learning Research", "volume": "172", "pages": "48--62"},
    ),
    "dorent2019uhved": (
        "inproceedings",
        "Dorent, Reuben and Joutard, Samuel and Modat, Marc and Ourselin, S{\\'e}bastien and Vercauteren, Tom",
        "Hetero-Modal Variational Encoder-Decoder for Joint Modality Completion and Segmentation",
        {"booktitle": _MICCAI, "pages": "74--82", "doi": "10.1007/978-3-030-32245-8_9", "eprint": "1907.11150"},
    ),
    "chen2024cones": (
        "article",
        "Chen, Yunjie and others",
        "{CoNeS}: Conditional Neural Fields with Shift Modulation for Multi-sequence {MRI} Translation",
        {"journal": "Machine Learning for Biomedical Imaging"},
    ),
    "friedrich2024cwdm": (
        "misc",
        "Friedrich, Paul and Durrer, Alicia and Wolleb, Julia and Cattin, Philippe C.",
        "{cWDM}: Conditional Wavelet Diffusion Models for Cross-Modality {3D} Medical Image Synthesis",
        {},
    ),
    "tur2026wfm": (
        "inproceedings",
        "Tur, Yalcin and Stojkovic, Mihajlo and Bagci, Ulas",
        "{WFM}: {3D} Wavelet Flow Matching for Ultrafast Multi-Modal {MRI} Synthesis",
        {"booktitle": _MIDL},
    ),
    "cicek2016unet": (
        "inproceedings",
        (
            '{\\c{C}}i{\\c{c}}ek, {\\"O}zg{\\"u}n and Abdulkadir, Ahmed and Lienkamp, Soeren S. and Brox, Thomas and '
            "Ronneberger, Olaf"
        ),
        "{3D} {U-Net}: Learning Dense Volumetric Segmentation from Sparse Annotation",
        {"booktitle": _MICCAI, "pages": "424--432"},
    ),
    "lau2019urn": (
        "misc",
        'Lau, Kenneth and Adler, Jonas and Sj{\\"o}lund, Jens',
        "A unified representation network for segmentation with missing modalities",
        {},
    ),
}
#: Registry name to the papers to cite, the method's own first; its identifiers are those of `MethodInfo`.
_CITED: dict[str, tuple[str, ...]] = {
    "acn": ("wang2021acn",),
    "cg_mcg": ("zhou2021cgmcg",),
    "choi": ("choi2023singlestage",),
    "cmim": ("sylvain2021cmim",),
    "cones": ("chen2024cones",),
    "cwdm": ("friedrich2024cwdm",),
    "fgmf": ("zhou2021fgmf",),
    "cgan3d": ("yu2018cgan",),
    "had_net": ("vadacchino2021hadnet",),
    "hemis": ("havaei2016hemis",),
    "hf_gan": ("cho2024hfgan",),
    "hi_net": ("zhou2020hinet",),
    "kd_net": ("hu2020kdnet",),
    "kdd_net": ("wang2020kddnet",),
    "lce_net": ("zhou2021lcenet",),
    "m3ae": ("liu2023m3ae",),
    "maml": ("zhang2021maml",),
    "mgp_vae": ("hamghalam2021mgpvae",),
    "mm_gan": ("sharma2020mmgan",),
    "mmcformer": ("karimijafarbigloo2023mmcformer",),
    "mmformer": ("zhang2022mmformer",),
    "nnunet_per_subset": ("isensee2021nnunet",),
    "pimms": ("varsavsky2018pimms",),
    "replica": ("jog2017replica",),
    "resvit": ("dalmaz2022resvit",),
    "resvit_unified": ("dalmaz2022resvit",),
    "rfnet": ("ding2021rfnet",),
    "robust_seg": ("chen2019robustseg",),
    "rs_net": ("mehta2018rsnet",),
    "shen_gao": ("shen2019missing",),
    "smu_net": ("azad2022smunet",),
    "u_hemis": ("havaei2016hemis", "dorent2019uhved"),
    "u_hved": ("dorent2019uhved",),
    "unet": ("cicek2016unet",),
    "urn": ("lau2019urn",),
    "wfm": ("tur2026wfm",),
}


def method_entries(name: str, info: Cited) -> list[Entry]:
    """Entries to cite for a method; empty for one that is the program's own.

    Parameters
    ----------
    name : str
        Registry name.
    info : Cited or MethodInfo
    """
    if info.reference == "anymri":
        return []
    keys = _CITED.get(name)
    if keys is None:
        return [_from_info(name, info)]
    return [_paper(key, info if number == 0 else None) for number, key in enumerate(keys)]


def _paper(key: str, info: Cited | None) -> Entry:
    kind, authors, title, further = _PAPERS[key]
    year = {"year": str(info.year) if info else re.sub(r"\D", "", key)[:4]}
    return Entry(kind, key, {"author": authors, "title": title, **year, **_with_identifiers(further, info)})


def _with_identifiers(further: Mapping[str, str], info: Cited | None) -> dict[str, str]:
    fields = dict(further)
    if info is not None:
        fields |= {"doi": info.doi} if info.doi else {}
        fields |= {"eprint": info.arxiv} if info.arxiv else {}
    if "eprint" in fields:
        fields["archiveprefix"] = "arXiv"
    return fields


def _from_info(name: str, info: Cited) -> Entry:
    """Entry of a method that is not listed; its reference is ``Author et al., venue year``."""
    authors, _, venue = info.reference.partition(",")
    authors = re.sub(r"\s+et al\.?$", " and others", authors.strip())
    published = not info.reference.lower().startswith("unpublished")
    fields = {"author": _escaped(authors)} if published else {}
    fields |= {"title": f"{{{_escaped(info.title)}}}", "year": str(info.year)}
    fields |= {} if published else {"note": _escaped(info.reference)}
    venue = re.sub(rf",?\s*{info.year}\s*$", "", venue).strip()
    fields |= {"howpublished": _escaped(venue)} if venue and published else {}
    fields |= _with_identifiers({}, info)
    fields |= {"url": info.code} if info.code else {}
    surname = authors.split(" and ")[0].split(" ")[-1].lower() if published else ""
    key = re.sub(r"[^a-z0-9]", "", surname)
    return Entry("misc", f"{key}{info.year}{re.sub('[^a-z0-9]', '', name)}", fields)


def _escaped(text: str) -> str:
    return re.sub(r"([&%$#_])", r"\\\1", text)
