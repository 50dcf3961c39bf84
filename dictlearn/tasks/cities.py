"""Cities, and the beginnings of sentences that ask for their country, continent and language: a small task for
`ravel` that needs no data.

    "Oslo is a city in the country of"        the attribute: Country        the value: Norway
"""

from dictlearn.tasks import _entities
from dictlearn.tasks._task import Task

_ATTRIBUTES: tuple[str, ...] = ("Country", "Continent", "Language")
_CITIES = """
Paris France Europe French; Lyon France Europe French; Marseille France Europe French
Berlin Germany Europe German; Munich Germany Europe German; Hamburg Germany Europe German
Madrid Spain Europe Spanish; Barcelona Spain Europe Spanish; Seville Spain Europe Spanish
Rome Italy Europe Italian; Milan Italy Europe Italian; Naples Italy Europe Italian
Lisbon Portugal Europe Portuguese; Athens Greece Europe Greek; Moscow Russia Europe Russian
Warsaw Poland Europe Polish; Vienna Austria Europe German; Stockholm Sweden Europe Swedish
Oslo Norway Europe Norwegian; Copenhagen Denmark Europe Danish; Helsinki Finland Europe Finnish
Budapest Hungary Europe Hungarian; Dublin Ireland Europe English
Tokyo Japan Asia Japanese; Osaka Japan Asia Japanese; Kyoto Japan Asia Japanese
Beijing China Asia Chinese; Shanghai China Asia Chinese; Bangkok Thailand Asia Thai
Hanoi Vietnam Asia Vietnamese; Tehran Iran Asia Persian; Ankara Turkey Asia Turkish
Mumbai India Asia Hindi; Delhi India Asia Hindi; Baghdad Iraq Asia Arabic
Cairo Egypt Africa Arabic; Algiers Algeria Africa Arabic; Dakar Senegal Africa French
Nairobi Kenya Africa Swahili; Lagos Nigeria Africa English; Accra Ghana Africa English
Sydney Australia Oceania English; Melbourne Australia Oceania English
Toronto Canada North_America English; Vancouver Canada North_America English
Montreal Canada North_America French; Havana Cuba North_America Spanish
Guadalajara Mexico North_America Spanish; Lima Peru South_America Spanish
Santiago Chile South_America Spanish; Caracas Venezuela South_America Spanish
Brasilia Brazil South_America Portuguese
"""
_TEMPLATES = {
    "Country": (
        "%s is a city in the country of",
        "People who live in %s live in the country of",
        "Oxford is a city in England. %s is a city in",
        "city: Zurich, country: Switzerland; city: %s, country:",
    ),
    "Continent": (
        "%s is a city on the continent of",
        "People who live in %s live on the continent of",
        "On a map of the world, %s lies on the continent of",
        "city: Manila, continent: Asia; city: Perth, continent: Oceania; city: %s, continent:",
    ),
    "Language": (
        "People who live in %s mostly speak",
        "The main language that is spoken in %s is",
        "In Prague they speak Czech. In %s they speak",
        "city: Kiev, language: Ukrainian; city: %s, language:",
    ),
}


def cities() -> Task:
    """Makes the prompts.

    Returns:
        The Task, whose labels are the attributes that are asked for, with the attributes "entity" and "value".
    """
    lines = [one.split() for line in _CITIES.strip().split("\n") for one in line.split(";")]
    entities = {
        city: dict(zip(_ATTRIBUTES, (one.replace("_", " ") for one in own), strict=True))
        for city, *own in lines
    }
    return _entities.task("cities", _TEMPLATES, entities)
