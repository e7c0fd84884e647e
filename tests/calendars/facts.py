#!/usr/bin/env python3
"""Days of exchanges from exchange_calendars (Apache-2.0), as the extension stores them and as a test counts them.

    python3 -m venv venv && venv/bin/pip install exchange_calendars==4.13.2
    venv/bin/python tests/calendars/facts.py sql     > extension/sql/calendars_listed.sql
    venv/bin/python tests/calendars/facts.py digests > tests/calendars/digests.txt
    venv/bin/python tests/calendars/facts.py days XLON    # one line per session, to compare with kronos.calendar_days()

The New York Stock Exchange has rules of its own in calendars_builtin.sql; here it is only counted. exchange_calendars knows
CME's trading days and early closes, not the hour's pause before each opening: the hours are those that CME publishes for equity
index futures, 17:00 to 16:00 Chicago. It has no foreign exchange: that is every weekday, 17:00 to 17:00 New York, but for
25 December and 1 January.
"""

import datetime
import hashlib
import sys

import exchange_calendars

FIRST, LAST = datetime.date(2000, 1, 1), datetime.date(2030, 12, 31)

# Our name, their name.
LISTED = ["XLON", "XETR", "XPAR", "XTKS", "XHKG", "XSHG", "XASX"]
EVENING = {"GLBX": "CMES", "FX": None}
COUNTED = ["XNYS", "XNAS", *LISTED, *EVENING]


def sessions(name):
    """Per trading day its sessions as pairs of naive local times."""
    if name == "FX":
        for day in weekdays(FIRST, LAST):
            if (day.month, day.day) not in ((12, 25), (1, 1)):
                eve = day - datetime.timedelta(days=1)
                yield day, [tuple(datetime.datetime.combine(d, datetime.time(17)) for d in (eve, day))]
        return
    theirs = EVENING.get(name, name)
    factory = exchange_calendars.calendar_utils.global_calendar_dispatcher._calendar_factories.get(theirs)
    bound = factory.bound_max() if factory else None
    last = min(LAST, bound.date()) if bound is not None else LAST
    calendar = exchange_calendars.get_calendar(theirs, start=str(FIRST), end=str(last))
    for label, row in calendar.schedule.iterrows():
        at = {
            column: None if value != value else value.tz_convert(calendar.tz).tz_localize(None).to_pydatetime()
            for column, value in row.items()
        }
        opens, closes = at["open"], at["close"]
        if name == "GLBX" and closes.hour == 17:
            closes = closes.replace(hour=16)
        pause = at.get("break_start")
        yield label.date(), [(opens, pause), (at["break_end"], closes)] if pause else [(opens, closes)]


def weekdays(first, last):
    day = first
    while day <= last:
        if day.isoweekday() < 6:
            yield day
        day += datetime.timedelta(days=1)


def written(spans):
    return " ".join(f"{a:%m-%d %H:%M}-{b:%H:%M}" for a, b in spans)


def day_lines(name):
    return [f"{day} {written(spans)}" for day, spans in sessions(name)]


def digests():
    """Name, last year, number of days, and the digest of their lines, per calendar."""
    for name in COUNTED:
        lines = day_lines(name)
        digest = hashlib.md5("".join(f"{line}\n" for line in lines).encode()).hexdigest()
        print(name, lines[-1][:4], len(lines), digest)


def listed(name):
    """Per year the weekdays without a trading day, and those that close early."""
    known = dict(sessions(name))
    last = max(known).year
    usual = {}
    for day, spans in known.items():
        usual.setdefault(day.year, {}).setdefault(spans[-1][1].time(), []).append(day)
    for year in range(FIRST.year, last + 1):
        days = list(weekdays(datetime.date(year, 1, 1), datetime.date(year, 12, 31)))
        closed = [day for day in days if day not in known]
        early = [day for day in days if day in known and known[day][-1][1].time() in EARLY[name]]
        yield year, *(" ".join(f"{day:%m%d}" for day in some) for some in (closed, early))


# Early closes of each; their session opens as usual and has no pause.
EARLY = {
    name: {datetime.time(*map(int, time.split(":"))) for time in times.split()}
    for name, times in {
        "XLON": "12:30", "XETR": "14:00", "XPAR": "14:05", "XTKS": "", "XHKG": "12:00 12:30", "XSHG": "",
        "XASX": "14:10", "GLBX": "12:00", "FX": "",
    }.items()
}  # fmt: skip

HEAD = """\
-- Days without trade and days with an early close, 2000 to 2030 (XSHG: to 2026), month and day.
-- Made by tests/calendars/facts.py from exchange_calendars {version}, Copyright 2018 Quantopian, Inc. and contributors,
-- Apache License 2.0 (https://github.com/gerrymanoim/exchange_calendars); do not edit.

with listed (calendar, year, closed, early) as (values
"""

TAIL = """\
),
closed as (select calendar, day from listed, _kronos.dates(year, closed) day),
early as (select calendar, day from listed, _kronos.dates(year, early) day)
insert into _kronos.calendar_exception (calendar, day, opens, closes, builtin)
select calendar, day, null, null, true from closed where calendar <> 'GLBX'
union all
select e.calendar, e.day, h.opens, h.closes, true
from early e
join _kronos.early_hours() h on h.calendar = e.calendar and e.day >= h.since and e.day < h.until
union all
select 'GLBX', x.day, x.opens, x.closes, true
from _kronos.evening_days('17:00', '16:00', '12:00', array(select day from closed where calendar = 'GLBX'),
                          array(select day from early where calendar = 'GLBX')) x;
"""


def sql():
    print(HEAD.format(version=exchange_calendars.__version__), end="")
    rows = []
    for name in [*LISTED, "GLBX"]:
        for year, closed, early in listed(name):
            rows.append(f"  ('{name}', {year}, '{closed}', '{early}')")
    print(",\n".join(rows))
    print(TAIL, end="")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["sql"]:
            sql()
        case ["digests"]:
            digests()
        case ["days", name]:
            print("\n".join(day_lines(name)))
        case _:
            sys.exit(__doc__)
