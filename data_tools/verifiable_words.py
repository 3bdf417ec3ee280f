"""Word lists of the embedded data: frames that take any topic, and what the held-out kinds draw from.

A frame's ``{t}`` takes a plural or mass noun; the frame itself must not hint at any topic.
"""

from __future__ import annotations


def listed(text: str) -> tuple[str, ...]:
    """The words of a list that is written as one text."""
    return tuple(text.split())


STATEMENTS = (
    "My grandmother knows everything about {t}.",
    "We talked about {t} all evening.",
    "He has been fond of {t} since he was a boy.",
    "Nobody in our village cares about {t} more than she does.",
    "I could look at pictures of {t} for hours.",
    "Her first poem was about {t}.",
    "People have told stories about {t} for hundreds of years.",
    "Last week we saw a film about {t}.",
    "My uncle likes to talk about {t}.",
    "Our museum has a whole room for {t}.",
    "Most people I know have heard of {t}.",
    "She often thinks about {t} before she falls asleep.",
    "It is easy to forget how important {t} can be.",
    "The children made a poster about {t}.",
    "There are many good reasons to like {t}.",
    "The old song is about {t} and a broken heart.",
    "Years ago, {t} made our town famous.",
    "He wrote a long letter about {t} to his cousin.",
)
YES_NO = (
    "Do you like {t}?",
    "Have you ever written a poem about {t}?",
    "Did your parents talk about {t}?",
    "Is there anything better than {t}?",
    "Can we talk about {t} tomorrow?",
    "Are you interested in {t}?",
    "Does your brother care about {t}?",
    "Would you like to see a film about {t}?",
    "Have you heard the old song about {t}?",
    "Do people in your town talk about {t}?",
)
REASONS = (
    "Why do so many people like {t}?",
    "Why did she write a poem about {t}?",
    "Why are there so many stories about {t}?",
    "Why does your uncle always talk about {t}?",
    "Why is everybody so interested in {t}?",
    "Why should we care about {t}?",
    "Why did nobody tell me about {t}?",
    "Why have they made a film about {t}?",
)
EXCLAMATIONS = (
    "Oh, how much I love {t}!",
    "Nothing in the world beats {t}!",
    "Hurray for {t}!",
    "I can never get enough of {t}!",
    "What a great film about {t} that was!",
    "Wow, you know so much about {t}!",
    "How wonderful {t} can be!",
    "What a lovely song about {t}!",
    "I am crazy about {t}!",
    "What an amazing story about {t}!",
)
COMMANDS = (
    "Tell your brother about {t}.",
    "Write a poem about {t} tonight.",
    "Never forget about {t}.",
    "Draw a picture of {t} for me.",
    "Learn something new about {t} today.",
    "Stop talking about {t}.",
    "Sing us the old song about {t}.",
    "Ask your uncle about {t}.",
    "Go and see the new film about {t}.",
    "Bring me some pictures of {t}.",
)

# Level 1 crosses categories of different fields, level 2 of one field.
CATEGORIES = {
    "food": {
        "a fruit": ("mango", "banana", "peach", "cherry", "pear"),
        "a vegetable": ("carrot", "cabbage", "potato", "turnip", "leek"),
    },
    "animals": {
        "a bird": ("sparrow", "eagle", "robin", "pigeon", "owl"),
        "a fish": ("salmon", "trout", "shark", "herring", "tuna"),
        "an insect": ("beetle", "mosquito", "wasp", "fly", "cricket"),
    },
    "making": {
        "a workshop tool": ("hammer", "screwdriver", "saw", "wrench", "drill"),
        "a musical instrument": ("trumpet", "violin", "flute", "piano", "guitar"),
        "a kitchen utensil": ("spoon", "fork", "whisk", "ladle", "spatula"),
    },
    "wearing": {
        "a piece of clothing": ("shirt", "jacket", "skirt", "sweater", "coat"),
        "a piece of jewellery": ("necklace", "bracelet", "ring", "brooch", "tiara"),
    },
    "home": {
        "a piece of furniture": ("table", "sofa", "wardrobe", "chair", "bookcase"),
        "a building": ("castle", "church", "cottage", "palace", "skyscraper"),
    },
    "travel": {
        "a land vehicle": ("car", "truck", "bus", "tram", "motorbike"),
        "a boat": ("canoe", "ferry", "yacht", "kayak", "gondola"),
        "an aircraft": ("helicopter", "jet", "glider", "biplane", "airship"),
    },
    "people": {
        "a profession": ("dentist", "plumber", "lawyer", "nurse", "carpenter"),
        "a family member": ("uncle", "grandmother", "cousin", "nephew", "aunt"),
    },
}
# Level 3: two halves of one category, told apart by a property.
HALVES = (
    (
        ("an animal that lives in the sea", ("whale", "dolphin", "shark", "octopus", "lobster")),
        ("an animal that lives on a farm", ("cow", "sheep", "hen", "pig", "goat")),
    ),
    (
        ("a string instrument", ("violin", "cello", "guitar", "harp", "banjo")),
        ("a wind instrument", ("flute", "trumpet", "clarinet", "trombone", "oboe")),
    ),
    (
        ("something you wear on your feet", ("boot", "sandal", "sock", "slipper", "sneaker")),
        ("something you wear on your head", ("hat", "cap", "helmet", "crown", "beret")),
    ),
    (
        ("an animal that can fly", ("sparrow", "eagle", "bat", "pigeon", "wasp")),
        ("an animal that cannot fly", ("horse", "rabbit", "tortoise", "pig", "elephant")),
    ),
    (
        ("something very big", ("mountain", "skyscraper", "whale", "planet", "cathedral")),
        ("something very small", ("crumb", "flea", "pinhead", "atom", "grain of sand")),
    ),
    (
        ("something hot", ("bonfire", "volcano", "furnace", "boiling kettle", "glowing coal")),
        ("something cold", ("snowball", "glacier", "icicle", "freezer", "ice cube")),
    ),
)
# mood -> sentences that say how it feels, without the mood's own word
FELT = {
    "happy": (
        "I am so glad and full of joy today!",
        "What a delightful day, I feel wonderful!",
        "We are overjoyed and cannot stop smiling.",
        "She beamed with joy and delight.",
        "I feel great, life is beautiful!",
    ),
    "sad": (
        "I feel so miserable and full of sorrow.",
        "What a gloomy day, I am heartbroken.",
        "We are in despair and cannot stop crying.",
        "She wept with grief and sorrow.",
        "I feel so unhappy, all hope is gone.",
    ),
}
# mood -> scenes that show it
SHOWN = {
    "happy": (
        "She won first prize and danced with all her friends.",
        "They laughed and sang at his birthday party.",
        "He hugged the puppy he had always wished for.",
        "She smiled all day after her wedding.",
        "We cheered when our team won the cup.",
    ),
    "sad": (
        "Tears ran down her face at her mother's funeral.",
        "He cried at the grave of his old friend.",
        "She wept because her little dog had died.",
        "He stared at the empty bed of his lost child and cried.",
        "All alone, she cried over his farewell letter.",
    ),
    "angry": (
        "He slammed the door and shouted at them to get out.",
        "She yelled at the thief and shook her fist.",
        "He smashed his plate and screamed at the rude waiter.",
        "How dare you lie to me, you cheat!",
        "Furious, she tore up the unfair bill and yelled.",
    ),
    "scared": (
        "She trembled under the bed as the footsteps came nearer.",
        "He ran for his life when he saw the ghost.",
        "Help, there is a monster behind that door!",
        "Her hands shook when something growled in the dark.",
        "He did not dare to move in the haunted house.",
    ),
    "bored": (
        "He yawned and watched the clock, there was nothing to do.",
        "She yawned through the long, dull speech.",
        "Another dull hour of waiting, and nothing ever happens here.",
        "He counted the tiles on the wall for the tenth time and yawned.",
        "Nothing to read, nothing to do, just another dull afternoon.",
    ),
}


LANGUAGES = {
    "English": (
        "The house is very old.",
        "I am going to the market with my sister.",
        "My father drinks coffee every morning.",
        "We do not have time today.",
        "The small cat sleeps on the chair.",
    ),
    "French": (
        "La maison est très vieille.",
        "Je vais au marché avec ma sœur.",
        "Mon père boit du café chaque matin.",
        "Nous n'avons pas le temps aujourd'hui.",
        "Le petit chat dort sur la chaise.",
    ),
    "German": (
        "Das Haus ist sehr alt.",
        "Ich gehe mit meiner Schwester zum Markt.",
        "Mein Vater trinkt jeden Morgen Kaffee.",
        "Wir haben heute keine Zeit.",
        "Die kleine Katze schläft auf dem Stuhl.",
    ),
    "Spanish": (
        "La casa es muy vieja.",
        "Voy al mercado con mi hermana.",
        "Mi padre bebe café todas las mañanas.",
        "Hoy no tenemos tiempo.",
        "El gato pequeño duerme en la silla.",
    ),
}
# English phrase -> French, German, Spanish
PHRASES = {
    "good morning": ("bonjour", "guten Morgen", "buenos días"),
    "good night": ("bonne nuit", "gute Nacht", "buenas noches"),
    "thank you": ("merci", "danke", "gracias"),
    "please": ("s'il vous plaît", "bitte", "por favor"),
    "goodbye": ("au revoir", "auf Wiedersehen", "adiós"),
    "I love you": ("je t'aime", "ich liebe dich", "te amo"),
    "yes": ("oui", "ja", "sí"),
    "water": ("eau", "Wasser", "agua"),
    "my friend": ("mon ami", "mein Freund", "mi amigo"),
    "the house": ("la maison", "das Haus", "la casa"),
    "three": ("trois", "drei", "tres"),
    "red": ("rouge", "rot", "rojo"),
}
# field -> (word, its opposite, a word of the same meaning)
OPPOSITES = {
    "size": (
        ("big", "small", "large"),
        ("tall", "short", "high"),
        ("wide", "narrow", "broad"),
        ("heavy", "light", "weighty"),
    ),
    "mood": (
        ("happy", "sad", "glad"),
        ("brave", "cowardly", "bold"),
        ("angry", "calm", "furious"),
        ("kind", "cruel", "nice"),
    ),
    "sense": (
        ("loud", "quiet", "noisy"),
        ("bright", "dark", "shiny"),
        ("wet", "dry", "damp"),
        ("hot", "cold", "burning"),
    ),
    "worth": (("rich", "poor", "wealthy"), ("good", "bad", "fine"), ("easy", "difficult", "simple")),
    "time": (("fast", "slow", "quick"), ("sudden", "gradual", "abrupt")),
    "order": (("begin", "end", "start"), ("first", "last", "initial")),
    "truth": (("true", "false", "correct"), ("real", "fake", "genuine")),
}
