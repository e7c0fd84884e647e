-- FRED and ALFRED: economic series with every vintage, and the days of release.
call market.require_not_newer('market/fred.sql', 1);

call market.define_document_table('fred_observation',
  'Values of economic series, one row per vintage; known when the first day of the vintage was over in New York.', array[
  ['observed_on',      'date',     'date', 'First day of the period that it is about.'],
  ['vintage_on',       'date',     'realtime_start', 'First day on which this was the value.'],
  ['value',            'number',   'value', 'The value; NULL: missing.']]);

call market.define_document_table('fred_release_date',
  'Days on which series are released, past and to come.', array[
  ['release_id',       'text',     'release_id', 'Number of the release at FRED.'],
  ['release_name',     'text',     'release_name', 'Its name.'],
  ['released_on',      'date',     'date', 'Day of the release.']]);

call market.record_file('market/fred.sql', 1);
