"""Targets of a teacher, stored for a pool of views: written once, read by every run on these views.

`settings.py` has the keys of a recipe, `key.py` says which cache fits it, `folder.py` where an entry lies, `entries.py`
how it is proven; `writer.py` makes the entries, `reader.py` adds them to samples, `teacher.py` stands in for the
teacher, `verify.py` looks at everything again.
"""
