//! The rows of a relation, as the role that asked.

use super::quoted;
use crate::data::Rows;
use crate::error::{Error, Result};
use crate::job::SourceOptions;
use kronos_models::train::Panel;
use postgres::Client;
use postgres::fallible_iterator::FallibleIterator;

/// Name of the one series of a relation without a column for it.
const ONLY: &str = "series";

/// A relation that a role may read.
pub(super) struct Relation {
    name: String,
    role: String,
    columns: Vec<(String, String)>,
    targets: Vec<String>,
}

impl Relation {
    /// Looks a relation up and checks that `role` may read the targets of it.
    ///
    /// # Errors
    /// [`Error::Job`] when it is gone, not readable by the role, or when reading it as the role would not bind the role: what
    /// a view calls could set the role back, which must not lead to more than the role has.
    pub(super) fn open(client: &mut Client, oid: u32, role: &str, targets: &[String]) -> Result<Self> {
        let sql = "select format('%I.%I', n.nspname, c.relname), c.relkind::text,
                          pg_has_role(session_user, r.oid, 'MEMBER'), r.rolsuper, s.rolsuper,
                          has_schema_privilege(r.oid, n.oid, 'USAGE')
                            and (select bool_and(has_column_privilege(r.oid, c.oid, t, 'SELECT')) from unnest($3::text[]) t)
                   from pg_class c join pg_namespace n on n.oid = c.relnamespace, pg_roles r, pg_roles s
                   where c.oid = $1 and r.rolname = $2 and s.rolname = session_user";
        let Some(row) = client.query_opt(sql, &[&oid, &role, &targets])? else {
            return Err(Error::Job("the relation or the role that asked is gone".into()));
        };
        let (name, kind): (String, String) = (row.get(0), row.get(1));
        let (member, superuser, worker_superuser): (bool, bool, bool) = (row.get(2), row.get(3), row.get(4));
        if !member {
            return Err(Error::Job(format!("the worker is not a member of role \"{role}\"")));
        }
        if !row.get::<_, Option<bool>>(5).unwrap_or(false) {
            return Err(Error::Job(format!("role \"{role}\" may not read {name}")));
        }
        if worker_superuser && !superuser && !matches!(kind.as_str(), "r" | "p" | "m") {
            let text = "a worker that is a superuser reads tables only for others; let it log in as a role of its own";
            return Err(Error::Job(text.into()));
        }
        let sql = "select attname::text, format_type(atttypid, null) from pg_attribute
                   where attrelid = $1 and attnum > 0 and not attisdropped order by attnum";
        let columns = client.query(sql, &[&oid])?.iter().map(|row| (row.get(0), row.get(1))).collect();
        Ok(Self { name, role: role.to_owned(), columns, targets: targets.to_vec() })
    }

    /// The columns of time and series: those named, else the only ones of a fitting type.
    ///
    /// # Errors
    /// [`Error::Job`] for a name that is none, and when the time cannot be told.
    pub(super) fn columns(
        &self,
        time: Option<&str>,
        series: Option<&str>,
    ) -> Result<(String, Option<String>)> {
        let named = |name: &str| match self.columns.iter().any(|(column, _)| column == name) {
            true => Ok(name.to_owned()),
            false => Err(Error::Job(format!("column \"{name}\" of {} does not exist", self.name))),
        };
        let of = |types: &[&str]| -> Vec<&String> {
            let fits = |(name, kind): &&(String, String)| {
                types.contains(&kind.as_str()) && !self.targets.contains(name)
            };
            self.columns.iter().filter(fits).map(|(name, _)| name).collect()
        };
        let time =
            match (time, of(&["timestamp with time zone", "timestamp without time zone", "date"]).as_slice())
            {
                (Some(name), _) => named(name)?,
                (None, [only]) => (*only).clone(),
                (None, _) => {
                    return Err(Error::Job(format!(
                        "cannot tell the time column of {}; pass time_col",
                        self.name
                    )));
                }
            };
        let series = match (series, of(&["text", "character varying", "character", "name"]).as_slice()) {
            (Some(name), _) => Some(named(name)?),
            (None, []) => None,
            (None, [only]) => Some((*only).clone()),
            (None, _) => {
                return Err(Error::Job(format!(
                    "cannot tell the series column of {}; pass series_col",
                    self.name
                )));
            }
        };
        Ok((time, series))
    }

    /// Reads the targets of every series, in a transaction that cannot write, as the role.
    pub(super) fn read(&self, client: &mut Client, source: &SourceOptions) -> Result<Panel> {
        let series = source.series_col.as_deref().map_or_else(|| format!("'{ONLY}'"), quoted);
        let targets: Vec<String> =
            source.targets.iter().map(|target| format!("{}::float8", quoted(target))).collect();
        let time = quoted(&source.time_col);
        let sql = format!(
            "select {series}::text, (extract(epoch from {time}) * 1000000)::int8, {} from {}
             where {time} is not null and isfinite({time}) and {series} is not null",
            targets.join(", "),
            self.name
        );
        let mut transaction = client.build_transaction().read_only(true).start()?;
        transaction.batch_execute(&format!("set local role {}", quoted(&self.role)))?;
        let mut rows = Rows::new(source)?;
        let mut found = transaction.query_raw(&sql, std::iter::empty::<i32>())?;
        while let Some(row) = found.next()? {
            let number = |column: usize| row.get::<_, Option<f64>>(column).filter(|value| value.is_finite());
            let values = (2..2 + targets.len()).map(|column| number(column).unwrap_or(f64::NAN)).collect();
            rows.push(row.get(0), row.get(1), values);
        }
        drop(found);
        transaction.rollback()?;
        rows.finish()
    }
}
