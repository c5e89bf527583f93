"""Which language a config name or code means: `tr`, `sv-SE`, `tr_tr`, `german`, `tur`, `<|hi|>` -> one short code.

Corpora and models spell languages in many ways (Common Voice locales, FLEURS, MLS' English names, MMS' ISO 639-3,
Whisper's names). Lower-casing, phonemes and messages need one spelling: the ISO 639-1 code, or the 639-3 code of a
language that has no shorter one. Rejected: `pycountry` (27 MB for one table); Whisper's table (imports transformers).
"""

from __future__ import annotations

import difflib
import functools
import re
from dataclasses import dataclass

__all__ = ["Language", "find_language", "language_of", "near_languages"]

# "short code, ISO 639-3, English name"; source: the ISO 639-1 and 639-3 code tables.
_TABLE = """
aa aar Afar; ab abk Abkhaz; ae ave Avestan; af afr Afrikaans; ak aka Akan; am amh Amharic; an arg Aragonese;
ar ara Arabic; as asm Assamese; av ava Avaric; ay aym Aymara; az aze Azerbaijani; ba bak Bashkir;
be bel Belarusian; bg bul Bulgarian; bi bis Bislama; bm bam Bambara; bn ben Bengali; bo bod Tibetan;
br bre Breton; bs bos Bosnian; ca cat Catalan; ce che Chechen; ch cha Chamorro; co cos Corsican; cr cre Cree;
cs ces Czech; cu chu Church Slavonic; cv chv Chuvash; cy cym Welsh; da dan Danish; de deu German; dv div Divehi;
dz dzo Dzongkha; ee ewe Ewe; el ell Greek; en eng English; eo epo Esperanto; es spa Spanish; et est Estonian;
eu eus Basque; fa fas Persian; ff ful Fulah; fi fin Finnish; fj fij Fijian; fo fao Faroese; fr fra French;
fy fry Western Frisian; ga gle Irish; gd gla Scottish Gaelic; gl glg Galician; gn grn Guarani; gu guj Gujarati;
gv glv Manx; ha hau Hausa; he heb Hebrew; hi hin Hindi; ho hmo Hiri Motu; hr hrv Croatian;
ht hat Haitian Creole; hu hun Hungarian; hy hye Armenian; hz her Herero; ia ina Interlingua; id ind Indonesian;
ie ile Interlingue; ig ibo Igbo; ii iii Sichuan Yi; ik ipk Inupiaq; io ido Ido; is isl Icelandic;
it ita Italian; iu iku Inuktitut; ja jpn Japanese; jv jav Javanese; ka kat Georgian; kg kon Kongo;
ki kik Kikuyu; kj kua Kuanyama; kk kaz Kazakh; kl kal Greenlandic; km khm Khmer; kn kan Kannada; ko kor Korean;
kr kau Kanuri; ks kas Kashmiri; ku kur Kurdish; kv kom Komi; kw cor Cornish; ky kir Kyrgyz; la lat Latin;
lb ltz Luxembourgish; lg lug Luganda; li lim Limburgish; ln lin Lingala; lo lao Lao; lt lit Lithuanian;
lu lub Luba-Katanga; lv lav Latvian; mg mlg Malagasy; mh mah Marshallese; mi mri Māori; mk mkd Macedonian;
ml mal Malayalam; mn mon Mongolian; mr mar Marathi; ms msa Malay; mt mlt Maltese; my mya Burmese; na nau Nauru;
nb nob Norwegian Bokmål; nd nde North Ndebele; ne nep Nepali; ng ndo Ndonga; nl nld Dutch;
nn nno Norwegian Nynorsk; no nor Norwegian; nr nbl South Ndebele; nv nav Navajo; ny nya Chichewa;
oc oci Occitan; oj oji Ojibwa; om orm Oromo; or ori Odia; os oss Ossetian; pa pan Punjabi; pi pli Pali;
pl pol Polish; ps pus Pashto; pt por Portuguese; qu que Quechua; rm roh Romansh; rn run Rundi; ro ron Romanian;
ru rus Russian; rw kin Kinyarwanda; sa san Sanskrit; sc srd Sardinian; sd snd Sindhi; se sme Northern Sami;
sg sag Sango; sh hbs Serbo-Croatian; si sin Sinhala; sk slk Slovak; sl slv Slovenian; sm smo Samoan;
sn sna Shona; so som Somali; sq sqi Albanian; sr srp Serbian; ss ssw Swati; st sot Southern Sotho;
su sun Sundanese; sv swe Swedish; sw swa Swahili; ta tam Tamil; te tel Telugu; tg tgk Tajik; th tha Thai;
ti tir Tigrinya; tk tuk Turkmen; tl tgl Tagalog; tn tsn Tswana; to ton Tongan; tr tur Turkish; ts tso Tsonga;
tt tat Tatar; tw twi Twi; ty tah Tahitian; ug uig Uyghur; uk ukr Ukrainian; ur urd Urdu; uz uzb Uzbek;
ve ven Venda; vi vie Vietnamese; vo vol Volapük; wa wln Walloon; wo wol Wolof; xh xho Xhosa; yi yid Yiddish;
yo yor Yoruba; za zha Zhuang; zh zho Chinese; zu zul Zulu; ast ast Asturian; ckb ckb Central Kurdish;
crh crh Crimean Tatar; gag gag Gagauz; haw haw Hawaiian; yue yue Cantonese
"""

# Other spellings in the field: individual languages of a macrolanguage (MMS, FLEURS), older codes, Whisper's names.
_ALIASES = {
    **{"cmn": "zh", "arb": "ar", "pes": "fa", "prs": "fa", "swh": "sw", "lvs": "lv", "npi": "ne", "ory": "or"},
    **{"zsm": "ms", "ekk": "et", "uzn": "uz", "khk": "mn", "plt": "mg", "ydd": "yi", "pbt": "ps", "als": "sq"},
    **{"azj": "az", "azb": "az", "gug": "gn", "fuc": "ff", "gaz": "om", "kmr": "ku", "fil": "tl"},
    **{"iw": "he", "in": "id", "ji": "yi", "jw": "jv", "mo": "ro"},
    **{"nynorsk": "nn", "myanmar": "my", "valencian": "ca", "flemish": "nl", "castilian": "es", "mandarin": "zh"},
    **{"letzeburgesch": "lb", "pushto": "ps", "panjabi": "pa", "moldavian": "ro", "moldovan": "ro", "haitian": "ht"},
    **{"sinhalese": "si", "farsi": "fa", "maori": "mi", "uighur": "ug"},
}

# Config names that are no language but look like a code.
_NOT_CODES = {"all", "raw", "dev"}


@dataclass(frozen=True, slots=True)
class Language:
    """One language: `code` as short as ISO 639 allows, `iso3` its ISO 639-3 code, `name` in English."""

    code: str
    iso3: str
    name: str


@functools.lru_cache(maxsize=1)
def _languages() -> dict[str, Language]:
    """Every known spelling, lower case -> language."""
    table: dict[str, Language] = {}
    for row in _TABLE.replace("\n", " ").split(";"):
        code, iso3, name = row.strip().split(" ", 2)
        table[code] = table[iso3] = table[name.lower()] = Language(code, iso3, name)
    for alias, code in _ALIASES.items():
        table.setdefault(alias, table[code])
    return table


def find_language(spelling: str) -> Language | None:
    """The language that `spelling` names, or None.

    Understands codes (`tr`, `tur`), locales (`sv-SE`, `tr_tr`, `cmn_hans_cn`), MMS' scripts (`azj-script_latin`),
    English names (`german`, `Haitian Creole`) and Whisper's tokens (`<|hi|>`). `sw` is Swahili, not Swedish.
    """
    key = spelling.strip().removeprefix("<|").removesuffix("|>").strip().lower()
    table = _languages()
    return table.get(key) or table.get(re.split(r"[-_]", key, maxsplit=1)[0])


def language_of(config_name: str | None, target_language: str | None = None) -> str | None:
    """Short code of the language that is being recognised, or None where neither argument tells.

    Args:
        config_name: the corpus' config (`tr`, `sv-SE`, `german`; LibriSpeech's `clean` tells nothing).
        target_language: the language the user asked for (`--target_language`, `--language`); it wins.

    Returns:
        `tr`, `sv`, `de`, ...; a two or three letter code that the table lacks is handed through in lower case.
    """
    for spelling in (target_language, config_name):
        if not spelling:
            continue
        language = find_language(spelling)
        if language is not None:
            return language.code
        head = re.split(r"[-_]", spelling.strip().lower(), maxsplit=1)[0]
        if re.fullmatch(r"[a-z]{2,3}", head) and head not in _NOT_CODES:
            return head
    return None


def near_languages(spelling: str, codes: list[str]) -> list[str]:
    """At most five of `codes` that look or sound like `spelling`, nearest first, as `tr (Turkish)`.

    Args:
        spelling: what the user wrote.
        codes: what there is to choose from.
    """
    key = spelling.strip().lower()
    candidates: dict[str, str] = {}
    for code in codes:
        language = find_language(code)
        candidates[code.lower()] = code
        if language is not None:
            candidates.setdefault(language.name.lower(), code)
            candidates.setdefault(language.iso3, code)
    matches = difflib.get_close_matches(key, list(candidates), n=8, cutoff=0.5)
    matches += [name for name in sorted(candidates) if name[:1] == key[:1] and len(name) <= 3]
    nearest = list(dict.fromkeys(candidates[match] for match in matches))[:5]
    labels = []
    for code in nearest:
        language = find_language(code)
        labels.append(f"{code} ({language.name})" if language else code)
    return labels
