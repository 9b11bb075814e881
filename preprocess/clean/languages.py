"""Names of languages by code, as the English Wikipedia shows them before a foreign word."""

_NAMES = """
aa Afar|ab Abkhazian|af Afrikaans|am Amharic|ang Old English|ar Arabic|arc Aramaic|arz Egyptian Arabic|ast Asturian
az Azerbaijani|ba Bashkir|bar Bavarian|be Belarusian|bg Bulgarian|bn Bengali|bo Tibetan|br Breton|bs Bosnian|ca Catalan
ckb Central Kurdish|co Corsican|cs Czech|cu Church Slavonic|cy Welsh|da Danish|de German|dv Dhivehi|el Greek
en English|eo Esperanto|es Spanish|et Estonian|eu Basque|fa Persian|fi Finnish|fo Faroese|fr French|fy West Frisian
frm Middle French|fro Old French|ga Irish|gd Scottish Gaelic|gl Galician|goh Old High German|got Gothic
grc Ancient Greek|gu Gujarati|gv Manx|ha Hausa|haw Hawaiian|he Hebrew|hi Hindi|hr Croatian|hu Hungarian|hy Armenian
ia Interlingua|id Indonesian|is Icelandic|it Italian|iu Inuktitut|ja Japanese|jv Javanese|ka Georgian|kk Kazakh
km Khmer|kn Kannada|ko Korean|ku Kurdish|ky Kyrgyz|la Latin|lb Luxembourgish|lo Lao|lt Lithuanian|lv Latvian
mg Malagasy|mi Māori|mk Macedonian|ml Malayalam|mn Mongolian|mr Marathi|ms Malay|mt Maltese|my Burmese|nah Nahuatl
nds Low German|ne Nepali|nl Dutch|nn Norwegian Nynorsk|no Norwegian|nv Navajo|oc Occitan|or Odia|os Ossetian
ota Ottoman Turkish|pa Punjabi|peo Old Persian|pi Pali|pl Polish|ps Pashto|pt Portuguese|qu Quechua|rm Romansh
ro Romanian|ru Russian|sa Sanskrit|sc Sardinian|sco Scots|sd Sindhi|sh Serbo-Croatian|si Sinhala|sk Slovak|sl Slovene
so Somali|sq Albanian|sr Serbian|sv Swedish|sw Swahili|syr Syriac|ta Tamil|te Telugu|tg Tajik|th Thai|tk Turkmen
tl Tagalog|tr Turkish|tt Tatar|ug Uyghur|uk Ukrainian|ur Urdu|uz Uzbek|vi Vietnamese|xh Xhosa|yi Yiddish|yo Yoruba
zh Chinese|zu Zulu
"""
LANGUAGES = dict(entry.split(" ", 1) for line in _NAMES.split("\n") for entry in line.split("|") if entry)
