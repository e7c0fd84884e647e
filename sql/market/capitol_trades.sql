-- CapitolTrades: the same trades of members of Congress as QuiverQuant's, from another source.
call market.require_not_newer('market/capitol_trades.sql', 1);

call market.define_document_table('capitol_trades', 'Trades of members of Congress, as they were published.', array[
  ['chamber',     'text',   'chamber', 'house or senate.'],
  ['owner',       'text',   'owner', 'self, spouse, joint, child or not-disclosed.'],
  ['filed_on',    'date',   'filingDate', 'Day of the disclosure.'],
  ['traded_on',   'date',   'txDate', 'Day of the trade, before anybody knew of it.'],
  ['transaction', 'text',   'txType', 'buy, sell, exchange or receive.'],
  ['least_usd',   'number', 'sizeRangeLow', 'Lower end of the range, in dollars.'],
  ['most_usd',    'number', 'sizeRangeHigh', 'Upper end of the range, in dollars; NULL: open.'],
  ['value_usd',   'number', 'value', 'The source''s own estimate, in dollars.']]);

do $$
declare
  item record;
begin
  for item in values ('quiver_congress_net_usd', 'true'), ('quiver_house_net_usd', 'd.chamber = ''house'''), ('quiver_senate_net_usd', 'd.chamber = ''senate''') loop
    call market.define_metric(item.column1, 'capitol_trades', 'filed_on',
      'sum(market.side_of(d.transaction) * coalesce((d.least_usd::numeric + coalesce(d.most_usd, d.least_usd)::numeric) / 2, d.value_usd::numeric))',
      item.column2 || ' and coalesce(d.least_usd, d.value_usd) is not null',
      'Purchases less sales disclosed on the day, middles of their ranges, in dollars; exchanges count 0.');
  end loop;
end
$$;

call market.record_file('market/capitol_trades.sql', 1);
