"""Classic data, typed in: each with where it was first printed.

Every column is float64 with rows leading, save indices of groups, which are int32.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

Columns = dict[str, np.ndarray]


def kidiq() -> Columns:
    """434 children: test score at three, mother's high school (0, 1), mother's IQ.

    National Longitudinal Survey of Youth, from Gelman and Hill, Data Analysis Using Regression
    and Multilevel/Hierarchical Models (2007), chapter 3; IQ to three decimals.
    """
    path = Path(__file__).with_name("kidiq.csv")
    score, high_school, iq = np.loadtxt(path, delimiter=",", skiprows=1).T
    return {"score": score, "high_school": high_school, "iq": iq}


def schools() -> Columns:
    """Eight schools: effects of coaching and their standard errors. Rubin (1981)."""
    return {
        "y": _numbers("28 8 -3 7 -1 1 18 12"),
        "sigma": _numbers("15 10 16 11 9 11 10 18"),
        "school": np.arange(8, dtype=np.int32),
    }


def insects() -> Columns:
    """Insects in 72 plots, 12 for each of six sprays. Beall (1942)."""
    count = _numbers("""
        10 7 20 14 14 12 10 23 17 20 14 13  11 17 21 11 16 14 17 17 19 21 7 13
        0 1 7 2 3 1 2 1 3 0 1 4             3 5 12 6 4 3 5 5 5 5 2 4
        3 5 3 5 3 6 1 1 3 2 6 4             11 9 15 22 15 16 13 10 26 26 24 13""")
    return {"count": count, "spray": np.repeat(np.arange(6, dtype=np.int32), 12)}


def warp_breaks() -> Columns:
    """Breaks of 54 warps, nine for each of two wools by three tensions. Tippett (1950)."""
    breaks = _numbers("""
        26 30 54 25 70 52 51 26 67  18 21 29 17 12 18 35 30 36  36 21 24 18 10 43 28 15 26
        27 14 29 19 29 31 41 20 44  42 26 19 16 39 28 21 39 29  20 21 24 17 13 15 15 16 28""")
    wool, tension = np.repeat([0, 1], 27), np.tile(np.repeat([0, 1, 2], 9), 2)
    columns = [np.ones(54), wool, tension == 1, tension == 2]
    columns += [wool * (tension == 1), wool * (tension == 2)]
    return {"breaks": breaks, "x": np.stack(columns, 1).astype(np.float64)}


def longley() -> Columns:
    """Employment in the USA, 1947 to 1962, in millions, and six measures. Longley (1967)."""
    table = _numbers("""
        83.0 234.289 235.6 159.0 107.608 1947 60.323  88.5 259.426 232.5 145.6 108.632 1948 61.122
        88.2 258.054 368.2 161.6 109.773 1949 60.171  89.5 284.599 335.1 165.0 110.929 1950 61.187
        96.2 328.975 209.9 309.9 112.075 1951 63.221  98.1 346.999 193.2 359.4 113.270 1952 63.639
        99.0 365.385 187.0 354.7 115.094 1953 64.989  100.0 363.112 357.8 335.0 116.219 1954 63.761
        101.2 397.469 290.4 304.8 117.388 1955 66.019 104.6 419.180 282.2 285.7 118.734 1956 67.857
        108.4 442.769 293.6 279.8 120.445 1957 68.169 110.8 444.546 468.1 263.7 121.950 1958 66.513
        112.6 482.704 381.3 255.2 123.366 1959 68.655 114.2 502.601 393.1 251.4 125.368 1960 69.564
        115.7 518.173 480.6 257.2 127.852 1961 69.331 116.9 554.894 400.7 282.7 130.081 1962 70.551
        """).reshape(16, 7)
    return {"y": table[:, 6], "x": np.column_stack([np.ones(16), table[:, :6]])}


def nile() -> Columns:
    """Flow of the Nile at Aswan, 1871 to 1970, in 1e8 cubic metres. Cobb (1978)."""
    flow = _numbers("""
        1120 1160 963 1210 1160 1160 813 1230 1370 1140 995 935 1110 994 1020 960 1180 799 958 1140
        1100 1210 1150 1250 1260 1220 1030 1100 774 840 874 694 940 833 701 916 692 1020 1050 969
        831 726 456 824 702 1120 1100 832 764 821 768 845 864 862 698 845 744 796 1040 759 781 865
        845 944 984 897 822 1010 771 676 649 846 812 742 801 1040 860 874 848 890 744 749 838 1050
        918 986 797 923 975 815 1020 906 901 1170 912 746 919 718 714 740""")
    return {"y": flow, "x": np.column_stack([np.ones(100), np.arange(1871.0, 1971.0)])}


def lynx() -> Columns:
    """Log10 of lynx trapped in Canada in 1823 to 1934, and of the two years before. Elton and
    Nicholson (1942).
    """
    trapped = _numbers("""
        269 321 585 871 1475 2821 3928 5943 4950 2577 523 98 184 279 409 2285 2685 3409 1824 409
        151 45 68 213 546 1033 2129 2536 957 361 377 225 360 731 1638 2725 2871 2119 684 299 236
        245 552 1623 3311 6721 4254 687 255 473 358 784 1594 1676 2251 1426 756 299 201 229 469 736
        2042 2811 4431 2511 389 73 39 49 59 188 377 1292 4031 3495 587 105 153 387 758 1307 3465
        6991 6313 3794 1836 345 382 808 1388 2713 3800 3091 2985 3790 674 81 80 108 229 399 1132
        2432 3574 2935 1537 529 485 662 1000 1590 2657 3396""")
    y = np.log10(trapped)
    return {"y": y[2:], "before": np.stack([y[1:-1], y[:-2]], 1)}


def coal() -> Columns:
    """Explosions in British coal mines in each year from 1851 to 1961. Jarrett (1979)."""
    count = _numbers("""
        4 5 4 0 1 4 3 4 0 6 3 3 4 0 2 6 3 3 5 4 5 3 1 4 4 1 5 5 3 4 2 5 2 2 3 4 2 1 3 2 2 1 1 1 1 3
        0 0 1 0 1 1 0 0 3 1 0 3 2 2 0 1 1 1 0 1 0 1 0 0 0 2 1 0 0 0 1 1 0 2 3 3 1 1 2 1 1 1 1 2 4 2
        0 0 1 4 0 0 0 1 0 0 0 0 0 1 0 0 1 0 1""")
    return {"count": count, "time": np.linspace(-1.0, 1.0, 111)}


def rats() -> Columns:
    """Weights of 30 young rats in five weeks, in grams. Gelfand et al. (1990)."""
    weight = _numbers("""
        151 199 246 283 320  145 199 249 293 354  147 214 263 312 328  155 200 237 272 297
        135 188 230 280 323  159 210 252 298 331  141 189 231 275 305  159 201 248 297 338
        177 236 285 350 376  134 182 220 260 296  160 208 261 313 352  143 188 220 273 314
        154 200 244 289 325  171 221 270 326 358  163 216 242 281 312  160 207 248 288 324
        142 187 234 280 316  156 203 243 283 317  157 212 259 307 336  152 203 246 286 321
        154 205 253 298 334  139 190 225 267 302  146 191 229 272 302  157 211 250 285 323
        132 185 237 286 331  160 207 257 303 345  169 216 261 295 333  157 205 248 289 316
        137 180 219 258 291  153 200 244 286 324""")
    week = np.tile(np.arange(-2.0, 3.0), 30)
    return {"y": weight, "week": week, "rat": np.repeat(np.arange(30, dtype=np.int32), 5)}


def seeds() -> Columns:
    """Germinated seeds on 21 plates, two kinds by two extracts. Crowder (1978)."""
    kind, extract = np.repeat([0.0, 1.0], [11, 10]), np.repeat([0.0, 1, 0, 1], [5, 6, 5, 5])
    return {
        "germinated": _numbers("10 23 23 26 17 5 53 55 32 46 10 8 10 8 23 0 3 22 15 32 3"),
        "total": _numbers("39 62 81 51 39 6 74 72 51 79 13 16 30 28 45 4 12 41 30 51 7"),
        "x": np.stack([np.ones(21), kind, extract, kind * extract], 1),
        "plate": np.arange(21, dtype=np.int32),
    }


def puromycin() -> Columns:
    """Rates of a reaction by concentration of the substrate, with and without puromycin. Treloar
    (1974), from Bates and Watts (1988).
    """
    concentration = np.repeat([0.02, 0.06, 0.11, 0.22, 0.56, 1.10], 2)
    return {
        "rate": _numbers("""76 47 97 107 123 139 159 152 191 201 207 200
                            67 51 84 86 98 115 131 124 144 158 160"""),
        "concentration": np.concatenate([concentration, concentration[:-1]]),
        "treated": np.repeat([1.0, 0.0], [12, 11]),
    }


def theophylline() -> Columns:
    """Theophylline in the serum of one patient, mg / l by hours after 4.02 mg / kg. Upton, from
    Boeckmann, Sheiner and Beal (1994), patient 1.
    """
    return {
        "time": _numbers("0.25 0.57 1.12 2.02 3.82 5.10 7.03 9.05 12.12 24.37"),
        "concentration": _numbers("2.84 6.57 10.50 9.66 8.58 8.36 7.47 6.89 5.94 3.28"),
    }


def stack_loss() -> Columns:
    """Loss of ammonia on 21 days by air flow, water temperature and acid. Brownlee (1965)."""
    table = _numbers("""
        80 27 89 42  80 27 88 37  75 25 90 37  62 24 87 28  62 22 87 18  62 23 87 18  62 24 93 19
        62 24 93 20  58 23 87 15  58 18 80 14  58 18 89 14  58 17 88 13  58 18 82 11  58 19 93 12
        50 18 89 8   50 18 86 7   50 19 72 8   50 19 79 8   50 20 80 9   56 20 82 15  70 20 91 15
        """).reshape(21, 4)
    return {"y": table[:, 3], "x": np.column_stack([np.ones(21), table[:, :3]])}


def _numbers(text: str) -> np.ndarray:
    return np.array(text.split(), dtype=np.float64)
