"""A complete minimal provider to copy.

1. Copy this folder to ``providers/NAME/`` (or into a package of your own) and replace ``template`` and ``Template`` by your name.
2. Built in: add the name to ``BUILT_IN`` of ``providers/registry.py``. In a package of your own: add the entry point
   ``[market_data.providers] NAME = "your_package.spec:SPEC"``.
3. Copy ``tests/providers/test_template.py`` to ``test_NAME.py``. The classes that it inherits test every hook.

The API here is made up: ``GET /v1/bars?symbol=IBM&from=2012-01-03&to=2012-12-31&limit=1000&page=1`` with the key in ``X-Api-Key``; its
response is ``{"symbol": "IBM", "count": 250, "bars": [{"date": "2012-01-03", "open": 186.73, ...}], "next_page": null}``.
"""
