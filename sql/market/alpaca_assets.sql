-- What the broker says of shares.
call market.require_not_newer('market/alpaca_assets.sql', 1);

call market.define_document_table('alpaca_assets',
  'Shares at Alpaca, one row per version, known when it came. The key is the broker''s number: a ticker may be given to another company.', array[
  ['status',         'text',    'status', 'active or inactive.'],
  ['exchange',       'text',    'exchange', 'Exchange.'],
  ['tradable',       'boolean', 'tradable', 'Whether orders are taken.'],
  ['shortable',      'boolean', 'shortable', 'Whether it may be sold short.'],
  ['easy_to_borrow', 'boolean', 'easy_to_borrow', 'Whether shares are at hand to be borrowed; a promise for no order.'],
  ['fractionable',   'boolean', 'fractionable', 'Whether fractions are traded; never short.'],
  ['marginable',     'boolean', 'marginable', 'Whether it may be bought on margin.']]);

call market.record_file('market/alpaca_assets.sql', 1);
