"""A double of an Oracle Database for tests: the real driver connects to it; its SQL runs on DuckDB. README.md says what it proves.

::

    with OracleDouble() as double:
        connection = oracledb.connect(user=double.user, password=double.password, dsn=double.dsn)
        double.faults.drop_after("<commit>")
        ...
        assert double.seen.statements[-1].types == ("VARCHAR", "TIMESTAMP")
"""

from tests.services.oracle_double.faults import Fault, Faults, Record, Statement
from tests.services.oracle_double.server import OracleDouble
from tests.services.oracle_double.wallet import Wallet, make_wallet

__all__ = ["Fault", "Faults", "OracleDouble", "Record", "Statement", "Wallet", "make_wallet"]
