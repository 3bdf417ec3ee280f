"""Topics of the embedded data, each with sentences that are plainly about it and never name it."""

from __future__ import annotations

# group -> topic -> sentences. Topics of one group are near (the hardest level crosses them), others distant; no
# sentence may suit a second topic, or a pair would have two right answers.
TOPICS: dict[str, dict[str, tuple[str, ...]]] = {
    "pets": {
        "cats": (
            "It purred on the sofa and licked its whiskers.",
            "The little mouse hunter stretched its claws and meowed.",
            "The kitten chased a ball of wool and purred.",
        ),
        "dogs": (
            "It barked at the postman and wagged its tail.",
            "The puppy fetched the stick and chewed an old bone.",
            "He took his barking terrier for a walk on the lead.",
        ),
        "parrots": (
            "The green talker on his shoulder repeated every word.",
            "It flapped its bright feathers and squawked hello from its perch.",
            "Polly copied our voices and cracked seeds with a hooked beak.",
        ),
        "goldfish": (
            "Two little orange pets with fins lived in a glass bowl.",
            "It moved its tiny fins and blew bubbles in the aquarium.",
            "She dropped flakes into the bowl and orange fins came up.",
        ),
    },
    "weather": {
        "rain": (
            "Drops drummed on the roof and everyone opened an umbrella.",
            "Puddles filled the street and her coat was soaked.",
            "It poured from dark clouds until the gutters overflowed.",
        ),
        "snow": (
            "White flakes fell all night and the children went sledging.",
            "The garden lay under a thick white blanket, cold and frozen.",
            "They rolled big cold white balls and put a carrot in for a nose.",
        ),
        "wind": (
            "It howled around the house and blew our hats away.",
            "A strong gust tore the kite out of her hands.",
            "The breeze grew into a gale and bent every branch.",
        ),
        "sunshine": (
            "Bright golden beams warmed our faces on the beach.",
            "The sky was so clear and bright that we put on dark glasses.",
            "She lay on the beach to get a tan in the warm light.",
        ),
    },
    "food": {
        "bread": (
            "The baker took a warm crusty loaf out of the oven.",
            "She put two slices into the toaster and buttered them.",
            "He kneaded the dough and baked a crusty baguette.",
        ),
        "cheese": (
            "A piece of cheddar or brie tastes good on a cracker.",
            "The Swiss kind is yellow and full of holes.",
            "She grated some parmesan and sliced the cheddar.",
        ),
        "soup": (
            "Stir the hot broth and serve it in bowls with a spoon.",
            "A steaming bowl of vegetable broth warmed her at lunch.",
            "He slurped the hot chicken broth from a big spoon.",
        ),
        "chocolate": (
            "She unwrapped the sweet brown bar made from cocoa.",
            "The dark cocoa truffles melted on his tongue.",
            "Cocoa and sugar were mixed and poured into sweet brown bars.",
        ),
    },
    "drinks": {
        "coffee": (
            "A strong espresso wakes me up in the morning.",
            "She ground the roasted beans and made a cappuccino.",
            "The barista served a latte and a double espresso.",
        ),
        "tea": (
            "He let the Earl Grey leaves steep in the pot.",
            "She dipped a bag of chamomile in a hot cup.",
            "The Darjeeling leaves need four minutes in the pot.",
        ),
        "milk": (
            "White and creamy, it comes fresh from the cow.",
            "He poured the white dairy drink over his cereal.",
            "The calf waited for its white dairy drink.",
        ),
        "wine": (
            "The red grapes had fermented for years in oak barrels.",
            "He pulled the cork and poured two glasses of Merlot.",
            "The vineyard bottled a fine red Bordeaux.",
        ),
    },
    "transport": {
        "trains": (
            "The express left the platform and rolled along the rails.",
            "We bought tickets at the railway station and found our carriage.",
            "The locomotive pulled twelve carriages along the track.",
        ),
        "ships": (
            "The captain steered the great vessel out of the harbour.",
            "The crew raised the anchor and hoisted the sails.",
            "All sailors on deck saw the harbour disappear.",
        ),
        "planes": (
            "The pilot took off from the runway and climbed into the clouds.",
            "Fasten your seat belt, we are landing at the airport.",
            "The jet rose from the runway and spread its wings.",
        ),
        "bicycles": (
            "She pedalled up the hill and gripped the handlebars.",
            "He pumped up both tyres and oiled the chain and pedals.",
            "Put on your helmet before you pedal down the lane.",
        ),
    },
    "music": {
        "pianos": (
            "Her fingers danced across the black and white keys.",
            "The grand instrument has eighty-eight keys and two pedals.",
            "He lifted the lid and pressed the black and white keys.",
        ),
        "guitars": (
            "He strummed six strings by the campfire.",
            "She strummed a few chords and tuned all six strings.",
            "The rock star plugged in his amplifier and strummed.",
        ),
        "drums": (
            "He beat out a loud rhythm with two sticks.",
            "The band followed the beat of the sticks and cymbals.",
            "She hit the snare and the cymbals with her sticks.",
        ),
        "violins": (
            "She drew the bow across the four strings under her chin.",
            "Stradivari made the best ones, played with a bow.",
            "The fiddler put rosin on his bow.",
        ),
    },
    "land": {
        "mountains": (
            "The climbers reached the rocky summit, high above the valley.",
            "Everest and the Alps have steep slopes and high peaks.",
            "Steep cliffs led up to the icy peak.",
        ),
        "rivers": (
            "The Nile and the Amazon flow slowly to the sea.",
            "It flows from its source under the bridge and down to the sea.",
            "The current carried the canoe downstream between two banks.",
        ),
        "deserts": (
            "Camels crossed the hot, dry dunes of the Sahara.",
            "There was only sand, and the nearest oasis was far away.",
            "A cactus stood alone in the endless dry sand.",
        ),
        "forests": (
            "Oaks, pines and mushrooms stood close together in the woods.",
            "We got lost among a thousand tall pines and oaks.",
            "Deep in the woods, moss covered every trunk.",
        ),
    },
    "sport": {
        "football": (
            "The striker scored a goal and the keeper shouted.",
            "He took the penalty kick and hit the goal post.",
            "The midfielder passed to the striker, who scored a goal.",
        ),
        "tennis": (
            "She served an ace and swung her racket at Wimbledon.",
            "His racket hit the ball over the net for match point.",
            "Federer won the set with a strong serve.",
        ),
        "swimming": (
            "She put on her goggles and dived into the pool.",
            "He did forty laps of the pool, mostly backstroke.",
            "Her crawl and her backstroke are the fastest in the pool.",
        ),
        "boxing": (
            "He put on his gloves and punched his rival in the ring.",
            "A left hook knocked the champion out in round two.",
            "Muhammad Ali threw quick punches in the ring.",
        ),
    },
    "jobs": {
        "doctors": (
            "She examined the patient and wrote a prescription.",
            "The surgeon checked the patient's heart at the hospital.",
            "He listened to the cough with a stethoscope.",
        ),
        "teachers": (
            "She wrote on the blackboard and explained it to her pupils.",
            "He marked the homework of his whole class.",
            "Every pupil in her classroom listened to the lesson.",
        ),
        "farmers": (
            "He ploughed his field and harvested the wheat.",
            "She drove her tractor to the barn to feed the sheep.",
            "They sow the corn in spring and bring in the hay.",
        ),
        "firefighters": (
            "They rushed to the burning house with hoses and ladders.",
            "The siren wailed as they went to put out the flames.",
            "With a hose and an axe they fought the blaze.",
        ),
    },
    "insects": {
        "bees": (
            "They buzzed around the hive and made honey.",
            "The queen of the hive has a thousand buzzing workers.",
            "They collect nectar for honey and can sting.",
        ),
        "spiders": (
            "It sat on eight legs in the middle of its web.",
            "The tarantula crawled on eight hairy legs.",
            "She spun a sticky web to catch flies.",
        ),
        "butterflies": (
            "The caterpillar left its cocoon with colourful wings.",
            "It fluttered on pretty wings from flower to flower.",
            "A monarch fluttered its orange and black wings.",
        ),
        "ants": (
            "Thousands of tiny workers marched in a line to their hill.",
            "The colony dug tunnels and carried crumbs in a long line.",
            "Tiny and strong, they marched off with our picnic crumbs.",
        ),
    },
    "wild": {
        "elephants": (
            "It lifted its long trunk and flapped its huge ears.",
            "The grey giant has two ivory tusks and a trunk.",
            "The huge grey herd sprayed water with their trunks.",
        ),
        "kangaroos": (
            "It hopped across the Australian outback with a baby in its pouch.",
            "The mother hopped away, her joey safe in the pouch.",
            "It leans on its strong tail and hops faster than a horse in Australia.",
        ),
        "penguins": (
            "It waddled across the Antarctic ice in its black and white suit.",
            "They huddle on the Antarctic ice to keep their eggs warm.",
            "The flightless emperor slid over the ice on its belly.",
        ),
        "whales": (
            "The giant of the ocean blew a spout through its blowhole.",
            "The humpback sang deep in the ocean.",
            "Moby Dick dived, and his huge tail hit the waves.",
        ),
    },
    "things": {
        "books": (
            "She turned the last page of the novel and closed it.",
            "The library lends novels for three weeks.",
            "He read one more chapter, then marked the page.",
        ),
        "clocks": (
            "It ticked on the wall and struck midnight.",
            "The hands pointed to half past three, tick, tock.",
            "The cuckoo came out of its little door to tell the hour.",
        ),
        "mirrors": (
            "She looked at her own reflection and combed her hair.",
            "He saw his own face in the polished glass.",
            "Her reflection in the glass smiled back at her.",
        ),
        "telephones": (
            "It rang, so she picked up the receiver and said hello.",
            "He dialled the number and waited for someone to answer the call.",
            "The caller hung up before I could answer.",
        ),
    },
}
