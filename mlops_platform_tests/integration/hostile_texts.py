"""200 texts that try to become code in a page, a chart, Markdown, a spreadsheet or a terminal.

A payload that runs sets `window.hacked`, writes it to the console or opens a dialog. Does not belong here: where they
are put.
"""

from __future__ import annotations

_CODE = ("window.hacked={0}", "alert('hacked {0}')", "console.log('hacked {0}')", "top.hacked={0}")

_TEMPLATES = (
    "<script>{code}</script>",
    "</script><script>{code}</script>",
    "</ScRiPt ><sCrIpT>{code}</sCrIpT>",
    "<!--<script>{code}</script>-->",
    '"><script>{code}</script>',
    "'><script>{code}</script>",
    "</style><script>{code}</script>",
    "</title></head><script>{code}</script>",
    "<img src=x onerror={code}>",
    '"><img src=x onerror="{code}">',
    "'><img src=x onerror='{code}' x='",
    "<svg onload={code}>",
    "<svg><script>{code}</script></svg>",
    "<iframe srcdoc='<script>{code}</script>'></iframe>",
    "<iframe src=javascript:{code}></iframe>",
    '<a href="javascript:{code}">x</a>',
    '<body onload="{code}">',
    "<details open ontoggle={code}>",
    "<input autofocus onfocus={code}>",
    "<math><mtext><img src=x onerror={code}></mtext></math>",
    "<object data='javascript:{code}'></object>",
    "<base href='javascript:{code}//'>",
    "<meta http-equiv=refresh content='0;url=javascript:{code}'>",
    "[x](javascript:{code})",
    "![x](javascript:{code})",
    '![x](x "onerror={code}")',
    "`</code><script>{code}</script>`",
    "';{code};//",
    '";{code};//',
    "\\';{code};//",
    "\\u003cscript\\u003e{code}\\u003c/script\\u003e",
    "&lt;script&gt;{code}&lt;/script&gt;",
    "${{{code}}}",
    "{{{{constructor.constructor(`{code}`)()}}}}",
    "{{% {code} %}}",
    "<%= {code} %>",
    '=HYPERLINK("javascript:{code}","x")',
    "+cmd|' /C {code}'!A0",
    "@SUM({code})",
    "-1+{code}",
    "\t=1+1<script>{code}</script>",
    "\x00<script>{code}</script>",
    "\x1b]0;{code}\x07<script>{code}</script>",
    "\u202e<script>{code}</script>\u202c",
    "\u2028<script>{code}</script>\u2029",
    "\ufeff<script\x0b>{code}</script>",
    "$\\frac{{<script>{code}</script>$",
    "<scr\x00ipt>{code}</script>",
    "%3Cscript%3E{code}%3C/script%3E",
    "x" * 5000 + "<script>{code}</script>",
)

HOSTILE_TEXTS = [
    template.format(code=code.format(4 * number + turn))
    for number, template in enumerate(_TEMPLATES)
    for turn, code in enumerate(_CODE)
]
