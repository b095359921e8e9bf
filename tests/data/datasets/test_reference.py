from __future__ import annotations

import importlib.util
from pathlib import Path


def test_the_page_of_data_sets_is_up_to_date(repository: Path) -> None:
    place = importlib.util.spec_from_file_location("page", repository / "tools" / "write_dataset_reference.py")
    assert place is not None
    assert place.loader is not None
    module = importlib.util.module_from_spec(place)
    place.loader.exec_module(module)
    assert module.PAGE.read_text(encoding="utf-8") == module.page(), "run tools/write_dataset_reference.py"
