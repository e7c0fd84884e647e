//! Which calendar each series of a call has: the one that the call names, else its instrument's, else the one that its bars come
//! from, else `kronos.default_calendar`.

use super::{Calendar, Instant, Width, find, infer_width, load, load_all};
use crate::error::{GAP_HINT, Result};
use crate::guc;
use crate::statement::{self, Sight};
use chrono_tz::Tz;
use kronos_time::{Fit, Verdict, explains_all, infer};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgLogLevel, PgSqlErrorCode};
use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

/// Newest bars that tell a calendar.
pub const TELLING: usize = 512;

/// The calendars that a series can have: the default first, the others read when they are needed.
pub struct Known {
    default: Rc<Calendar>,
    others: OnceCell<Vec<Rc<Calendar>>>,
    named: RefCell<HashMap<String, Option<Rc<Calendar>>>>,
}

impl Known {
    /// Reads the default.
    ///
    /// # Errors
    /// 42704 where it does not exist.
    pub fn new() -> Result<Self> {
        Ok(Self::of(Rc::new(load(&guc::default_calendar())?)))
    }

    fn of(default: Rc<Calendar>) -> Self {
        Self { default, others: OnceCell::new(), named: RefCell::default() }
    }

    fn others(&self) -> Result<&[Rc<Calendar>]> {
        if let Some(others) = self.others.get() {
            return Ok(others);
        }
        let others = load_all()?.into_iter().filter(|other| other.name() != self.default.name());
        Ok(self.others.get_or_init(|| others.map(Rc::new).collect()))
    }

    fn named(&self, name: &str) -> Result<Option<Rc<Calendar>>> {
        if self.default.name() == name {
            return Ok(Some(self.default.clone()));
        }
        if let Some(found) = self.named.borrow().get(name) {
            return Ok(found.clone());
        }
        let found = find(name)?.map(Rc::new);
        self.named.borrow_mut().insert(name.to_owned(), found.clone());
        Ok(found)
    }

    /// The calendars that bars of a width may come from: one if it is certain.
    ///
    /// # Errors
    /// What the server raises.
    pub fn infer(&self, width: Option<Width>, starts: &[Instant]) -> Result<Vec<Rc<Calendar>>> {
        let starts = &starts[starts.len().saturating_sub(TELLING)..];
        let Some(width) = width.or_else(|| infer_width(&self.default, starts)) else { return Ok(Vec::new()) };
        if explains_all(&self.default, width, starts) {
            return Ok(vec![self.default.clone()]);
        }
        let others = self.others()?;
        let all = || std::iter::once(&self.default).chain(others);
        let candidates: Vec<&Calendar> = all().map(Rc::as_ref).collect();
        let places = match infer(&candidates, width, starts) {
            Verdict::Certain(place) => vec![place],
            Verdict::Uncertain(places) => places,
        };
        Ok(places.into_iter().filter_map(|place| all().nth(place).cloned()).collect())
    }
}

/// The calendars of the series of one call.
pub struct Calendars {
    given: Option<Rc<Calendar>>,
    known: Known,
    readable: OnceCell<bool>,
    /// The instrument looked up last, and its calendar.
    instrument: RefCell<Option<(String, Option<String>)>>,
    doubts: RefCell<Doubts>,
}

/// Series whose bars contradict their calendar.
#[derive(Default)]
struct Doubts {
    /// The series looked at last: several windows of it count once.
    last: Option<Option<String>>,
    series: usize,
    /// Whether the series looked at last is new and fits.
    fits: bool,
    of: BTreeMap<String, Doubt>,
    /// Calendars of instruments that nobody defined.
    unknown: BTreeSet<String>,
}

/// Series of one calendar that contradict it.
#[derive(Default)]
struct Doubt {
    /// With bars outside of its sessions.
    off: usize,
    /// Without bars in many of them.
    missing: usize,
    /// Without some bars, and not forecast because of that.
    with_gaps: usize,
}

impl Calendars {
    /// Those of a call that names one, or none.
    ///
    /// # Errors
    /// 42704 for a calendar that does not exist.
    pub fn new(given: Option<&str>) -> Result<Self> {
        let (given, known) = match given {
            Some(name) => {
                let given = Rc::new(load(name)?);
                (Some(given.clone()), Known::of(given))
            }
            None => (None, Known::new()?),
        };
        let (readable, instrument) = (OnceCell::new(), RefCell::default());
        Ok(Self { given, known, readable, instrument, doubts: RefCell::default() })
    }

    /// The zone in which dates and times without one are read: that of the call's calendar, else of the default.
    pub fn zone(&self) -> Tz {
        self.known.default.zone()
    }

    /// The calendar of one series, of which the bars that start at `starts` (ascending) are known.
    ///
    /// # Errors
    /// What the server raises.
    pub fn of(&self, key: Option<&str>, width: Option<Width>, starts: &[Instant]) -> Result<Rc<Calendar>> {
        if let Some(given) = &self.given {
            return Ok(given.clone());
        }
        if let Some(key) = key
            && let Some(name) = self.instrument(key)?
        {
            match self.known.named(&name)? {
                Some(calendar) => return Ok(calendar),
                None => _ = self.doubts.borrow_mut().unknown.insert(name),
            }
        }
        let mut certain = self.known.infer(width, starts)?;
        Ok(match certain.len() {
            1 => certain.remove(0),
            _ => self.known.default.clone(),
        })
    }

    /// What `market.instruments` says of an instrument, where the invoker may read it.
    fn instrument(&self, symbol: &str) -> Result<Option<String>> {
        if !self.has_instruments()? {
            return Ok(None);
        }
        // Several windows of one series follow each other.
        if let Some((last, calendar)) = &*self.instrument.borrow()
            && last == symbol
        {
            return Ok(calendar.clone());
        }
        let calendar: Option<String> = statement::value(
            Sight::Query,
            "select i.calendar from only market.instruments i where i.symbol operator(pg_catalog.=) $1",
            &[symbol.into()],
        )?;
        self.instrument.replace(Some((symbol.to_owned(), calendar.clone())));
        Ok(calendar)
    }

    /// Whether there is a table of instruments to read.
    ///
    /// Whoever may make a schema could have made that one: a view, a policy or a cast of theirs would run as the invoker, so
    /// nothing but a plain table with plain text is read, and no table that inherits from it.
    fn has_instruments(&self) -> Result<bool> {
        if let Some(&readable) = self.readable.get() {
            return Ok(readable);
        }
        let readable = statement::value::<bool>(
            Sight::Query,
            "select pg_catalog.has_schema_privilege(c.relnamespace, 'USAGE') and c.relkind operator(pg_catalog.=) 'r'
                and not c.relrowsecurity and pg_catalog.count(a.attname) operator(pg_catalog.=) 2
             from pg_catalog.pg_class c
             join pg_catalog.pg_namespace n on n.oid operator(pg_catalog.=) c.relnamespace
             left join pg_catalog.pg_attribute a on a.attrelid operator(pg_catalog.=) c.oid
               and a.attname operator(pg_catalog.=) any ('{symbol,calendar}'::name[])
               and a.atttypid operator(pg_catalog.=) 'pg_catalog.text'::pg_catalog.regtype
               and pg_catalog.has_column_privilege(c.oid, a.attnum, 'SELECT')
             where n.nspname operator(pg_catalog.=) 'market' and c.relname operator(pg_catalog.=) 'instruments'
             group by c.oid, c.relnamespace, c.relkind, c.relrowsecurity
             union all select false limit 1",
            &[],
        )?;
        Ok(*self.readable.get_or_init(|| readable == Some(true)))
    }

    /// Takes note of how the bars of a series lie in its calendar.
    pub fn note(&self, key: Option<&str>, calendar: &Calendar, width: Width, starts: &[Instant]) {
        let doubts = &mut *self.doubts.borrow_mut();
        let known = doubts.last.as_ref().is_some_and(|last| last.as_deref() == key);
        doubts.fits = !known;
        if known {
            return;
        }
        doubts.last = Some(key.map(str::to_owned));
        doubts.series += 1;
        let fit = Fit::of(calendar, width, &starts[starts.len().saturating_sub(TELLING)..]);
        if fit.is_doubtful(width) {
            doubts.fits = false;
            let doubt = doubts.of.entry(calendar.name().to_owned()).or_default();
            *(if fit.off > fit.missing { &mut doubt.off } else { &mut doubt.missing }) += 1;
        }
    }

    /// Takes note that the series noted last lacks bars of its calendar and is not forecast.
    pub fn note_gap(&self, calendar: &Calendar) {
        let doubts = &mut *self.doubts.borrow_mut();
        if doubts.fits {
            doubts.of.entry(calendar.name().to_owned()).or_default().with_gaps += 1;
        }
    }

    /// Says once which calendars do not fit, however many series it concerns; `noun` is what a row is called.
    pub fn tell(&self, noun: &str) {
        let Doubts { series, of, unknown, .. } = &*self.doubts.borrow();
        let unknown =
            unknown.iter().map(|name| format!("calendar \"{name}\" of market.instruments does not exist"));
        let mut said: Vec<String> = unknown.collect();
        let mut hint = GAP_HINT;
        for (name, &Doubt { off, missing, with_gaps }) in of {
            for (count, what) in [
                (off, format!("{noun}s lie outside of its sessions")),
                (missing, format!("many of its sessions have no {noun}s")),
            ] {
                if count > 0 {
                    said.push(format!("calendar \"{name}\" does not fit {count} of {series} series: {what}"));
                    hint = "Name a calendar in the option calendar; kronos.infer_calendar() says which fit.";
                }
            }
            if with_gaps > 0 {
                said.push(format!("{with_gaps} series lack bars that calendar \"{name}\" has"));
            }
        }
        if !said.is_empty() {
            ErrorReport::new(PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION, said.join("; "), "kronos")
                .set_hint(hint)
                .report(PgLogLevel::NOTICE);
        }
    }
}
