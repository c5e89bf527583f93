"""Short sentences for the stand-in corpora, written for the tests: the punctuation and letters that trip normalisers.

Turkish has İ and I, apostrophes and digits; Hindi its vowel signs and the danda; German ß and umlauts.
"""

from __future__ import annotations

SENTENCES: dict[str, list[str]] = {
    "tr": [
        "İstanbul'da yağmur var.",
        "Işık hızlı gider!",
        "Bugün hava çok güzel.",
        "Kapıyı açar mısın?",
        "Ankara'nın 25 ilçesi var.",
        "Çocuk bahçede oynuyor.",
        "“Gel” dedi; gitti.",
        "Su soğuk, çay sıcak.",
        "Öğretmen sınıfa girdi.",
        "Yarın görüşürüz.",
    ],
    "it": [
        "Oggi piove a Roma.",
        "Il caffè è caldo.",
        "Dov'è la stazione?",
        "Perché non vieni?",
        "La città è grande!",
        "Un'ora fa era qui.",
        "Leggo un buon libro.",
        "Il cane dorme.",
    ],
    "sv-SE": [
        "Det regnar i dag.",
        "Var är stationen?",
        "Jag dricker kaffe.",
        "Åsa bor i Örebro.",
        "Hunden sover nu.",
        "Vi ses i morgon!",
        "Boken är på bordet.",
        "Han sjunger högt.",
    ],
    "sw": [
        "Leo kuna mvua.",
        "Habari za asubuhi?",
        "Ninapenda kusoma.",
        "Mtoto analala.",
        "Ng'ombe wako shambani.",
        "Karibu nyumbani!",
        "Chai iko tayari.",
        "Tutaonana kesho.",
    ],
    "hi": [
        "आज बारिश है।",
        "यह मेरा घर है।",
        "तुम कहाँ हो?",
        "चाय गरम है।",
        "बच्चा सो रहा है।",
        "मैं किताब पढ़ता हूँ।",
        "कल मिलेंगे!",
        "पानी ठंडा है।",
    ],
    "de": [
        "Heute regnet es.",
        "Die Straße ist naß.",
        "Wo ist der Bahnhof?",
        "Das Buch ist schön.",
        "Der Hund schläft.",
        "Grüße aus Köln!",
        "Wir sehen uns morgen.",
        "Der Tee ist heiß.",
    ],
    "en": [
        "She had a dark suit.",
        "Don't ask me that.",
        "The rain has stopped.",
        "Where is the station?",
        "He reads a good book.",
        "Bring two oily rags.",
        "The tea is cold.",
        "We meet tomorrow.",
        "It's late, go home.",
        "The dog sleeps.",
    ],
}
