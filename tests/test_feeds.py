import pytest

from market_data.errors import ConfigError
from market_data.feeds import load_feeds

GOOD = """
defaults: {universe: sp500_etf, schedule: "20:30", start_date: 2020-01-02}
feeds:
  - {provider: polygon, dataset: ohlcv-1d}
"""


def load(tmp_path, text):
    path = tmp_path / "feeds.yaml"
    path.write_text(text)
    return load_feeds(path)


def test_the_projects_feeds_are_valid():
    assert {feed.dag_id for feed in load_feeds()} >= {"polygon_ohlcv_1d", "mock_ohlcv_1d"}


def test_defaults_and_names_follow(tmp_path):
    (feed,) = load(tmp_path, GOOD)
    assert (feed.dag_id, feed.conn_id, feed.pool, feed.schedule) == ("polygon_ohlcv_1d", "polygon_default", "polygon_api", "20:30")


def test_a_feed_may_have_no_schedule(tmp_path):
    (feed,) = load(tmp_path, GOOD.replace("dataset: ohlcv-1d}", "dataset: ohlcv-1d, schedule: null}"))
    assert feed.schedule is None


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (("polygon", "yahoo"), "provider is 'yahoo'; known: mock, polygon"),
        (("ohlcv-1d", "ohlcv-1w"), "dataset is 'ohlcv-1w'; known: ohlcv-1d"),
        (('"20:30"', '"25:00"'), "schedule is '25:00'"),
        (("2020-01-02", "soon"), "start_date is 'soon'"),
        (("dataset: ohlcv-1d}", "dataset: ohlcv-1d, colour: red}"), "unknown key 'colour'"),
        (("dataset: ohlcv-1d}", "dataset: ohlcv-1d, params: {speed: 5}}"), "params.speed is unknown"),
        (("feeds:", "feed:"), "a list under the key 'feeds'"),
        (("universe: sp500_etf, ", ""), "universe is missing"),
    ],
)
def test_a_wrong_file_is_named_with_field_value_and_what_is_allowed(tmp_path, change, text):
    with pytest.raises(ConfigError, match="feeds.yaml") as caught:
        load(tmp_path, GOOD.replace(*change))
    assert text in str(caught.value)


def test_two_feeds_of_one_dag_id_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="two feeds have the DAG id 'polygon_ohlcv_1d'"):
        load(tmp_path, GOOD + "  - {provider: polygon, dataset: ohlcv-1d}\n")
