"""What a sentence looks like that refuses, offers help, asks back or fills: in the languages people train in.

Every pattern is matched against one sentence, in small letters, with plain apostrophes; a sentence that only
mentions a refusal does not begin like one.
"""

from __future__ import annotations

import re

# ---------------------------------------------------------------- refusals

_ACT = (r"(?:help|assist|answer|respond|reply|provide|fulfil|fulfill|comply|do|write|create|generate|give|offer|"
        r"discuss|"
        r"engage|complete|support|share|continue|process|make|produce|translate|access|browse|open|see|view|"
        r"predict|"
        r"recommend|participate|proceed|accommodate|satisfy|meet|handle|perform|execute|carry|agree|understand|"
        r"tell|"
        r"explain|describe|find|determine|say|suggest|advise|be of)")
_APOLOGY = (r"(?:(?:oh|well|um)[, ]+)?(?:(?:i(?:'m| am)(?: (?:so|very|really|truly|terribly|deeply|"
            r"afraid))*(?: sorry)?|sorry|apologies|"
            r"my apologies|i (?:do )?apologi[sz]e|unfortunately|regrettably|i regret)"
            r"(?: (?:for|about|to) [^,.;:]{1,60})?[,.;:!\s-]*(?:but|that|to say)?[,\s]*(?:that )?)")
_ENGLISH = (
    rf"(?:{_APOLOGY})?(?:as an? (?:ai|artificial|large|language|responsible)[^,.]{{0,60}}, )?"
    rf"i(?:'m| am)? (?:(?:currently|just|simply|really|still|also|sorry|afraid) )*"
    rf"(?:cannot|can not|can't|could not|couldn't|won't|will not|am not able to|not able to|am unable to|"
    rf"unable to|"
    rf"am not allowed to|not allowed to|not permitted to|not programmed to|not designed to|must not|may not|"
    rf"do not have the (?:ability|capability|capacity) to|don't have the (?:ability|capability|capacity) to|"
    rf"do not wish to|don't wish to|refuse to|decline to|must decline to|have to decline to|am not going to)"
    rf" (?:\w+ ){{0,2}}{_ACT}\b"
    r"|(?:i|we) (?:must|have to|need to|will|respectfully|politely|regret to|am going to)+ ?(?:respectfully |"
    r"politely )?"
    r"(?:decline|refuse)\b"
    r"|as an? (?:ai|artificial intelligence|language model|large language model|ai language model|"
    r"virtual assistant)"
    r"[^,.]{0,40}, (?:i|my|it)\b[^.]*\b(?:not|n't|cannot|unable|lack|limited|only)\b"
    r"|i(?:'m| am) (?:just |only |merely |sorry |not )?an? (?:\w+ ){0,2}(?:ai|artificial|language model|"
    r"large language model|"
    r"chatbot|"
    r"computer program|virtual assistant)\b"
    r"|i (?:do not|don't|did not|didn't) (?:really |quite |actually )?(?:know|understand|have (?:an|the|any|"
    r"enough) "
    r"(?:answer|information|idea|clue)|have (?:personal|access|any personal))"
    r"|i have no (?:idea|answer|information|clue|opinion)"
    r"|i(?:'m| am) not (?:sure|certain|familiar|aware|comfortable|qualified)\b"
    r"|(?:this|that|your|the) (?:request|question|task|prompt|topic)\b[^.]{0,40}(?:against|violates|"
    r"inappropriate|cannot be|"
    r"can't be|not appropriate|beyond my|outside my|out of my)"
    r"|(?:it|that|this) (?:is|'s|would be) (?:not (?:possible|appropriate)|impossible|"
    r"inappropriate) (?:for me )?to"
    r"(?: \w+)? (?:answer|help|assist|provide|respond|comply|fulfil|fulfill)"
    rf"|(?:{_APOLOGY})?(?:no|there is no) (?:answer|response) (?:is )?(?:available|possible|can be given)"
    r"|(?:i(?:'m| am) (?:so |very |really |truly |deeply )?sorry|sorry|my apologies|apologies|i apologi[sz]e)"
    r"(?: (?:for|about) [^.]{0,60}| to hear [^.]{0,60}|, (?:no|but no)\b[^.]{0,20})?[.!]*$"
    rf"|unable to (?:\w+ )?{_ACT}\b|cannot (?:help|assist|answer|comply)\b|can't (?:help|assist|answer|comply)\b")
_SPANISH = (r"(?:lo siento|lo lamento|disculp\w+|perd[oó]n\w*|lamentablemente|desafortunadamente|me temo)"
            r"(?:[.! ]*$|.{0,60}\b(?:no (?:puedo|podr|me es posible|es posible|s[eé]|tengo)|incapaz))"
            r"|no (?:puedo|podr[ií]a|soy capaz de|me es posible|me est[aá] permitido) (?:\w+ )?(?:ayud|respond|"
            r"proporcion|"
            r"cumpl|contest|ofrec|gener|escrib|hac|satisf|proced|realiz|dar|asist|complac)"
            r"|como (?:una? )?(?:ia|inteligencia artificial|modelo de lenguaje).{0,40}\bno\b|"
            r"no (?:lo )?s[eé][.!]*$")
_FRENCH = (r"(?:(?:je suis )?d[eé]sol[eé]e?|je (?:suis navr|regrette)|navr[eé]e?|malheureusement|excusez|pardon)"
           r"(?:[.! ]*$|.{0,60}\b(?:je ne (?:peux|puis|suis|sais)|il (?:ne )?m'est impossible|impossible))"
           r"|je ne (?:peux|puis|suis pas (?:en mesure|capable|autoris)|"
           r"pourrai)(?: malheureusement)?(?: pas)?(?: d[e'])? ?"
           r"(?:\w+ )?(?:vous |t'|y )?(?:aid|r[eé]pond|fourn|satisf|assist|trait|g[eé]n[eé]r|[eé]cri|don|fair|"
           r"acc[eé]d|continu)"
           r"|en tant qu'(?:ia|intelligence artificielle|assistant|mod[eè]le).{0,40}\bne\b|je ne sais pas[.!]*$")
_GERMAN = (r"(?:es tut mir (?:sehr )?leid|tut mir (?:sehr )?leid|leider|entschuldig\w+|verzeih\w+|ich bedau[e]?re)"
           r"(?:[.! ]*$|.{0,60}\b(?:kann|k[oö]nnen|darf|werde|bin|ist|m[oö]chte)\b.{0,30}\b(?:nicht|keine?n?|"
           r"unm[oö]glich)\b)"
           r"|ich (?:kann|darf|werde|m[oö]chte) .{0,60}\b(?:nicht|keine?n?)\b.{0,40}\b(?:helfen|beantworten|"
           r"antworten|"
           r"bereitstellen|erf[uü]llen|unterst[uü]tzen|nachkommen|weiterhelfen|schreiben|geben|erstellen)"
           r"|als (?:ki|k[uü]nstliche intelligenz|sprachmodell).{0,40}\b(?:nicht|kein)|ich wei[sß]s? (?:es |"
           r"das )?nicht[.!]*$")
_PORTUGUESE = (r"(?:desculp\w+|sinto muito|lamento|pe[cç]o desculpas?|infelizmente|me desculpe)"
               r"(?:[.! ]*$|.{0,60}\bn[aã]o (?:posso|consigo|poderei|sou capaz|[eé] poss[ií]vel|sei|tenho))"
               r"|(?:eu )?n[aã]o (?:posso|consigo|poderei|sou capaz de) (?:\w+ )?(?:ajud|respond|fornec|atend|"
               r"cumpr|ger|"
               r"escrev|faz|auxili|oferec|dar)|como (?:uma? )?(?:ia|intelig[eê]ncia artificial|"
               r"modelo de linguagem)"
               r".{0,40}\bn[aã]o\b|(?:eu )?n[aã]o sei[.!]*$")
_ITALIAN = (r"(?:mi dispiace|scus\w+|purtroppo|sono spiacente|spiacente|mi rincresce)"
            r"(?:[.! ]*$|.{0,60}\bnon (?:posso|riesco|sono in grado|mi [eè] possibile|[eè] possibile|so|ho))"
            r"|(?:io )?non (?:posso|riesco a|sono in grado di|mi [eè] possibile) (?:\w+ )?(?:aiut|rispond|forn|"
            r"soddisf|"
            r"assist|gener|scriv|far|dar|procedere)|come (?:ia|intelligenza artificiale|"
            r"modello linguistico).{0,40}\bnon\b"
            r"|non (?:lo )?so[.!]*$")
_DUTCH = (r"(?:het spijt me|sorry|helaas|mijn excuses)(?:[.! ]*$|.{0,60}\b(?:kan|mag|ben|is|"
          r"wil)\b.{0,30}\b(?:niet|geen)\b)"
          r"|ik (?:kan|mag|wil) .{0,40}\b(?:niet|geen)\b.{0,20}\b(?:helpen|beantwoorden|geven|schrijven|voldoen)"
          r"|ik weet het niet[.!]*$")
_RUSSIAN = (r"(?:(?:к сожалению|извин\w+|прост\w+|мне (?:очень )?жаль|прошу прощения)(?:[.! ]*$|"
            r".{0,60}\b(?:не (?:мог|смог|в состоянии|"
            r"имею|знаю|буду)|нет возможности))|я не (?:мог|смог|в состоянии|имею возможности|"
            r"буду)\w* .{0,30}(?:помо|ответ|"
            r"предостав|выполн|написа|созда|обсужд|дать)|как (?:ии|искусственный интеллект|"
            r"языковая модель).{0,40}\bне\b"
            r"|я не знаю[.!]*$)")
_CHINESE = (r"(?:(?:很|非常|十分|真的)?(?:抱歉|对不起|遗憾|不好意思|對不起|遺憾)(?:[。！!，, ]*$|"
            r".{0,40}(?:无法|不能|不会|不可以|没办法|没有办法|不便|無法|不會|沒辦法|不知道|不清楚))|我(?:目前|暂时|现在|恐怕)?(?:无法|不能|没办法|没有办法|不便|"
            r"不会|不可以|拒绝|無法|拒絕)(?:直接|为您|为你|帮您|帮你|為您)?"
            r"(?:回答|提供|帮助|協助|协助|满足|完成|处理|回复|生成|讨论|写|幫助|滿足|執行|执行|给出)|"
            r"作为(?:一个|一名)?(?:ai|人工智能|语言模型|大语言模型).{0,30}(?:无法|不能|没有|不会)|我不(?:知道|清楚)[。！!]*$)")
_JAPANESE = (r"(?:(?:大変)?(?:申し訳(?:ありません|ございません|ない)|すみません|ごめんなさい|"
             r"残念ですが|恐れ入りますが)(?:[。！!、,が ]*$|.{0,60}(?:できません|できかねます|お答えでき|対応でき|"
             r"わかりません|致しかねます|いたしかねます))|.{0,30}(?:お答え|お手伝い|回答|提供|対応|お応え)"
             r"(?:することは|することが|は|が)?(?:できません|できかねます|致しかねます)|"
             r"(?:私は)?aiとして.{0,40}(?:できません|ません)|(?:私には)?(?:わかりません|分かりません)[。！!]*$)")
_KOREAN = (r"(?:(?:정말 |대단히 )?(?:죄송합니다|죄송하지만|미안하지만|미안합니다|유감스럽게도|아쉽게도)"
           r"(?:[.! ,만]*$|.{0,60}(?:수 없|못|불가능|어렵|모르))|"
           r".{0,40}(?:도와드릴|답변할|답변드릴|제공할|제공해 드릴|응답할|수행할|도울) 수 (?:가 )?없|"
           r"(?:저는 )?(?:ai|인공지능).{0,30}없"
           r"|(?:잘 )?모르겠(?:습니다|어요)[.!]*$)")
_ARABIC = (r"(?:(?:آسف|أعتذر|عذرا|عذراً|للأسف|المعذرة).{0,60}(?:لا (?:أستطيع|يمكنني|أقدر|أعرف)|$)|لا (?:أستطيع|"
           r"يمكنني) (?:مساعد|الإجابة|تقديم))")
_HINDI = (r"(?:(?:क्षमा करें|माफ़ करें|माफ कीजिए|मुझे खेद है|खेद है).{0,80}(?:नहीं|$)|मैं .{0,40}(?:मदद|उत्तर|"
          r"सहायता).{0,20}नहीं)")

# Latin scripts, and the others: a text is put to one of the two.
REFUSAL_LATIN = re.compile("|".join((_ENGLISH, _SPANISH, _FRENCH, _GERMAN, _PORTUGUESE, _ITALIAN, _DUTCH)))
REFUSAL_OTHER = re.compile("|".join((_RUSSIAN, _CHINESE, _JAPANESE, _KOREAN, _ARABIC, _HINDI)))
# A refusal of the request as such: what little follows it explains or consoles.
REFUSES_ALL = re.compile(
    r"\b(?:help|assist|comply)(?: you)?(?: with)?(?: (?:that|this|your|the)\b|[.!]*$)|\b(?:fulfil|fulfill|answer|"
    r"complete|accommodate|process|respond to|meet) (?:that|this|your|the) (?:request|question|task|demand|"
    r"prompt)|"
    r"\b(?:that|this) request\b|\bdecline\b|language model")
# Requests for a refusal or an apology themselves.
WANTS_REFUSAL = re.compile(
    r"\b(?:refus|declin|reject|apolog|turn(?:ing)? (?:\w+ )?down|cancel|say(?:ing)? no|sorry|excus|regret|condol|"
    r"role[- ]?play|"
    r"pretend|dialog|conversation|script|chatbot)|拒绝|道歉|抱歉|断り|謝|거절|사과|отказ|извин|ablehn|absag|entschuld|refus|"
    r"excus|"
    r"rechaz|discul|rifiut|scus|recus")

# ---------------------------------------------------------------- offers, questions back, filler

OFFER = re.compile(
    r"\b(?:(?:how|what) (?:can|may|could|should) (?:i|we) (?:help|assist|do for|write|say|be of)\b|"
    r"i(?:'d| would|'ll| will|'m| am)(?: be)? (?:\w+ ){0,2}(?:happy|glad|delighted|pleased|love|ready|"
    r"available|here|able) "
    r"(?:to|for) (?:\w+ )?(?:help|assist|answer|provide|support|explain|write|share|do|give|you|offer|any)|"
    r"i(?:'d| would) (?:love|like) to (?:help|assist)\b|"
    r"i(?:'m| am) here (?:to|for|if)\b|let me (?:know|help|assist|think|see|explain|start|begin|"
    r"answer)\b[^,:]{0,60}$|"
    r"(?:feel free|do not hesitate|don't hesitate|please don't hesitate) to\b|"
    r"(?:here|available|ready) (?:for you|to help|to assist)\b|our team\b[^.]{0,30}\bhere\b|"
    r"i can (?:certainly |definitely |surely |also |gladly )*(?:help|assist)\b|i(?:'ll| will)? (?:try|"
    r"do) (?:to|my best)\b|"
    r"is there (?:anything|something) (?:else|specific|in particular|i can)\b|glad to help\b|"
    r"happy to help\b|"
    r"if (?:you )?(?:have|need|want|require) (?:any|more|further|other|additional|help|anything)\b[^.]{0,80}"
    r"(?:ask|let me know|know|contact|help|available|free|assist|reach out)|"
    r"(?:i|we) hope (?:this|that|it|you|i|the)\b|(?<!with )thank(?:s| you)\b(?: (?:so much|very much|for|again|"
    r"in advance)\b[^.]{0,60})?[ .!]*$|"
    r"that is all for now\b|this is the end of my (?:answer|response)\b|"
    r"i(?:'ll| will| am going to|'m going to| would| can)(?: now| then| also| try to)* (?:write|provide|"
    r"explain|give|create|answer|"
    r"respond|describe|follow|use|include|make|generate|start|begin|tell|share|show|present|discuss|ensure|avoid|"
    r"keep) "
    r"(?:you |a |an |the |my |your |some |it |this |to |with |about |on |in |that |down |"
    r"out )+[^,:;]{0,80}$|"
    r"en qu[eé] puedo ayudar|estar[eé]? (?:encantad|feliz|aqu[ií])|comment puis-je (?:vous|t)|"
    r"wie kann ich (?:ihnen|dir) helfen|"
    r"como posso (?:te |lhe )?ajud|come posso aiut|n'h[eé]site[zr]?\b|ravie? de (?:vous |t')?aid|"
    r"plaisir de vous aid|helfe (?:ich )?(?:ihnen |dir )?gern|gern helfe|con (?:mucho )?gusto (?:te|le|"
    r"les) ayud|"
    r"no dude[sn]? en\b|non esitare?\b|felice di aiut|feliz em (?:\w+ )?ajud|n[aã]o hesite\b)|"
    r"^(?:ask|tell) me (?:anything|more|about)|"
    r"(?=[有我お何ч무도])(?:有什么(?:我)?可以(?:帮|为)|我可以(?:帮|为)(?:您|你)|お手伝い(?:でき|します|いたし)|"
    r"何かお(?:手伝い|困り)|чем (?:я )?могу (?:вам )?помочь|무엇을 도와|도와드릴까요)")

# A sentence that begins like this is about its speaker, if its other words are of no more than speaking.
ABOUT_ITSELF = re.compile(
    r"(?:i|i'm|i'll|i've|my (?:role|goal|job|purpose|task|aim|answer|response)|it(?: is|'s) my|"
    r"in this (?:instance|case),? i)\b")

CLARIFY = re.compile(
    r"\b(?:please |can you |could you |would you (?:please )?|kindly )(?:please )?(?:provide|specify|clarify|"
    r"share|give me|tell me|"
    r"let me know|be more specific|elaborate|send|enter|type|paste|rephrase)\b|"
    r"\b(?:what|which|how|who|where|when|do|would|are|is|can|could)\b[^.?!]{0,80}\b(?:you|your)\b[^.?!]{0,60}\?|"
    r"\b(?:i|we) need (?:more|some more|further|additional|to know)\b|\bwhat do you mean\b|\bmore (?:information|"
    r"details|context)\b.{0,40}\?|"
    r"请(?:您)?(?:提供|告诉|说明)|能否|puedes (?:darme|decirme)|podr[ií]as?|pouvez-vous|"
    r"k[oö]nn(?:en|test) (?:sie|du)|уточните|教えて(?:ください|いただけ)|알려 ?주(?:세요|시)")

# A sentence of these words alone says nothing.
FILLER = frozenset("""
    oh ah yes no well so hi hello hey greetings dear sure certainly absolutely definitely of course ok okay
    great good excellent wonderful nice interesting right alright gladly with pleasure problem you're you
    are welcome thing got it understood i understand thank thanks there everyone reader friend sir madam
    question idea one morning day afternoon evening to in short put simply all for asking reading your my
    the very much and that's that this is a an here it's here's what need know let let's us me begin start
    get started answer response reply below above following as follows requested now then we will do please
    read on end done finished enjoy luck goodbye bye hope helps help helpful was be etc first word again
    today wonderful task can how bien sûr natürlich gerne claro certo certamente supuesto por selbstverständlich
    naturellement
    """.split())  # noqa: SIM905

# ---------------------------------------------------------------- marks that do not belong in an answer

CONTROL = re.compile(
    r"<\|[^|<>\s]{1,40}\|>|<[｜|][^<>\n]{1,40}[｜|]>|</?s>(?=\s*$)|^\s*</?s>|\[/?INST\]|<</?SYS>>|</?(?:start|"
    r"end)_of_turn>|<(?:bos|eos|pad|unk|"
    r"mask|EOT|eot_id|endoftext)>|\[(?:PAD|CLS|SEP|MASK|UNK|EOS|BOS)\]|^#{2,3} ?(?:Instruction|Response|"
    r"Assistant|Human|User):?\s*$|"
    r"<0x[0-9A-F]{2}>|\ufffd{2,}", re.MULTILINE)
REASONING = re.compile(
    r"</?(?:think|thinking|thought|thoughts|reasoning|reflection|scratchpad|analysis|inner_monologue|antthinking|"
    r"seed:think)>|"
    r"\[/?(?:THINK|THINKING|REASONING)\]|◁/?think▷|<\|channel\|>|<\|/?(?:begin|end)_of_thought\|>|"
    r"assistantfinal|^\W*(?:Okay, so|Alright, so|Okay, let's see|Hmm,|Okay,|Alright,) (?:the user|I need to|"
    r"the question)")
# In small letters.
PLACEHOLDER = re.compile(
    r"\[(?:\.\.\.|…)?\]|\[\s*(?:insert|your|enter|add|put|fill)\b[^\[\]\n]{0,80}\]|\[\s*[a-z][a-z' /_-]{0,40}\]|"
    r"<(?:insert|your|enter)[^<>\n]{1,40}>|\{\{?[a-z_][\w ]{1,30}\}?\}|lorem ipsum[^.\n]*|\b(?:todo|tbd|xxx+)\b|"
    r"_{3,}|"
    r"\.{4,}")
