"""Authors' checkpoints: one table of translation per published release, found by the name of its method.

A file is called after its method in the registry and knows neither the method nor the protocol. It has

- ``SOURCES``: the spellings of ``source`` it knows, e.g. ``"official:<subset>"``, and what weights each stands for;
- ``translate(theirs, source)``: from the authors' weights to values of the method's settings and weights by our names;
- ``FRESH``, where a release lacks parts of the network: a regular expression of our names that keep their fresh values.

`anymri.protocol.Method.import_state_dict` does the rest.
"""
