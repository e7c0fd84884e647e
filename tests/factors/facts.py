#!/usr/bin/env python3
"""Scores of the dated snapshots of ../shared/data/reference, computed with pandas from FINANCE's words, as a test compares them.

    python3 -m venv venv && venv/bin/pip install pandas==3.0.1
    venv/bin/python tests/factors/facts.py ../shared/data/reference > tests/factors/snapshots.txt

Of what the value factor wants, the snapshots have the price-earnings ratio: its inverse is the earnings yield, the two other ratios
are missing and score 0. A line is a date and, of the names that were known a day later, how many, how
many without a ratio, the sum of the scores, of their squares, and of each times its place among the symbols.
"""

import sys

import pandas

folder = sys.argv[1]
snapshots = pandas.read_csv(f"{folder}/sp500_fundamentals.csv.gz", keep_default_na=False)
sectors = pandas.read_csv(f"{folder}/sp500_sectors.csv", keep_default_na=False)
sector_of = dict(zip(sectors["symbol"], sectors["sector"]))


def spread(x):
    return 1.4826 * (x - x.median()).abs().median()


# A row that says the same as the one before it is no news; a fact of more than a hundred days is too old.
facts = [column for column in snapshots.columns if column != "as_of"]
snapshots = snapshots.sort_values(["symbol", "as_of"], kind="stable")
is_news = snapshots[facts].ne(snapshots.groupby("symbol")[facts].shift()).any(axis=1)
news = snapshots[is_news].assign(known=lambda rows: pandas.to_datetime(rows["as_of"]) + pandas.Timedelta(days=1))

print("as_of names missing sum squares places")
for as_of in sorted(snapshots["as_of"].unique()):
    now = pandas.Timestamp(as_of) + pandas.Timedelta(days=1)
    known = news[(news["known"] <= now) & (news["known"] > now - pandas.Timedelta(days=100))]
    names = known.groupby("symbol").tail(1).sort_values("symbol").reset_index(drop=True)
    pe = pandas.to_numeric(names["pe"])
    x = (1 / pe).where(pe != 0)
    sector = names["symbol"].map(sector_of).replace("", None)
    peers = x.groupby(sector).transform("count")
    alone = sector.isna() | (peers.fillna(0) < 8)
    middle = x.groupby(sector).transform("median").mask(alone, x.median())
    width = x.groupby(sector).transform(spread).mask(alone, spread(x))
    z = ((x - middle) / width).clip(-3, 3).where((width > 0) & x.notna(), 0.0)
    value = z / 3
    place = pandas.Series(range(1, len(value) + 1))
    sums = [value.sum(), (value**2).sum(), (value * place).sum()]
    print(as_of, len(value), int(x.isna().sum()), *(repr(float(total)) for total in sums))
