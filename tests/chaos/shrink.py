"""Leave out steps and faults of a campaign while it still fails."""

from tests.chaos.campaign import Failed, play
from tests.chaos.draw import Campaign
from tests.chaos.servers import Host


def shrink(campaign: Campaign, failure: Failed, host: Host, tries: int = 40) -> tuple[Campaign, Failed]:
    """Return the least part of a campaign that fails, found within ``tries`` runs, and its failure."""
    whole, dropped = campaign, set(campaign.dropped)
    for name in whole.parts:
        if tries == 0:
            break
        if name in dropped or name.partition(".")[0] in dropped:
            continue
        tries -= 1
        least = whole.without({*dropped, name})
        try:
            play(least, host)
        except Failed as still:
            dropped.add(name)
            campaign, failure = least, still
    return campaign, failure
