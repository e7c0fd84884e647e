-- QuiverQuant: trades of members of Congress and of insiders, lobbying, contracts, ratings of apps, trading off exchanges. Names of the vendor's
-- second version first, of its first one after them: name, reading, members, comment.
call market.require_not_newer('market/quiver.sql', 1);

-- The day of a trade is known up to 45 days after it: what is rolled up goes by the day of the disclosure.
do $$
declare
  item record;
begin
  for item in values ('quiver_congress', 'quiver_congress_net_usd', 'both chambers'), ('quiver_house', 'quiver_house_net_usd', 'the House'),
                     ('quiver_senate', 'quiver_senate_net_usd', 'the Senate') loop
    call market.define_document_table(item.column1, format('Trades of members of %s, as they were disclosed.', item.column3), array[
      ['politician',  'text',  'Name Representative Senator', 'Who traded.'],
      ['bioguide_id', 'text',  'BioGuideID', 'Number of the member in the Biographical Directory of Congress.'],
      ['chamber',     'text',  'Chamber House', 'Representatives or Senate.'],
      ['party',       'text',  'Party', 'Party.'],
      ['filed_on',    'date',  'Filed ReportDate', 'Day of the disclosure.'],
      ['traded_on',   'date',  'Traded TransactionDate Date', 'Day of the trade, up to 45 days before anybody knew of it.'],
      ['transaction', 'text',  'Transaction', 'Purchase, Sale, Sale (Full), Sale (Partial), Exchange, …'],
      ['amount_usd',  'range', 'Range Trade_Size_USD Amount', 'Middle of the range that was disclosed, in dollars.']]);
    call market.define_metric(item.column2, item.column1, 'filed_on', 'sum(market.side_of(d.transaction) * d.amount_usd::numeric)',
      'd.amount_usd is not null', 'Purchases less sales disclosed on the day, middles of their ranges, in dollars; exchanges count 0.');
  end loop;
end
$$;

call market.define_document_table('quiver_insiders', 'Transactions of insiders, as they were filed (Form 4).', array[
  ['insider',        'text',    'Name', 'Who traded.'],
  ['filed_on',       'date',    'fileDate', 'Day of the filing.'],
  ['traded_on',      'date',    'Date', 'Day of the transaction, before anybody knew of it.'],
  ['code',           'text',    'TransactionCode', 'Code of the form: P a purchase, S a sale on the market; others are grants, gifts, exercises.'],
  ['acquired',       'text',    'AcquiredDisposedCode', 'A acquired, D disposed of.'],
  ['shares',         'number',  'Shares', 'Shares of the transaction.'],
  ['price',          'number',  'PricePerShare', 'Price of a share.'],
  ['shares_after',   'number',  'SharesOwnedFollowing', 'Shares held afterwards.'],
  ['title',          'text',    'officerTitle', 'Title of an officer.'],
  ['is_director',    'boolean', 'isDirector', 'Whether a director.'],
  ['is_officer',     'boolean', 'isOfficer', 'Whether an officer.'],
  ['is_large_owner', 'boolean', 'isTenPercentOwner', 'Whether an owner of more than ten percent.']]);
call market.define_metric('quiver_insider_net_usd', 'quiver_insiders', 'filed_on',
  'sum(case d.code when ''P'' then 1 else -1 end * d.shares::numeric * d.price::numeric)',
  'd.code in (''P'', ''S'') and d.shares is not null and d.price is not null',
  'Purchases less sales on the market by insiders, filed on the day, in dollars; grants, gifts and exercises do not count.');

call market.define_document_table('quiver_lobbying', 'Spending on lobbying, as it was reported.', array[
  ['reported_on', 'date',   'Date', 'Day of the report.'],
  ['amount_usd',  'number', 'Amount', 'Amount, in dollars.'],
  ['client',      'text',   'Client', 'For whom.'],
  ['registrant',  'text',   'Registrant', 'Who lobbied.'],
  ['issue',       'text',   'Issue', 'About what.']]);
call market.define_metric('quiver_lobbying_spend_usd', 'quiver_lobbying', 'reported_on', 'sum(d.amount_usd::numeric)',
  'd.amount_usd is not null', 'Spending on lobbying reported on the day, in dollars.');

call market.define_document_table('quiver_gov_contracts', 'Contracts of the government, as they were announced.', array[
  ['announced_on', 'date',   'Date', 'Day of the announcement.'],
  ['acted_on',     'date',   'action_date', 'Day of the award, before it was announced.'],
  ['amount_usd',   'number', 'Amount', 'Amount, in dollars; negative where money is taken back.'],
  ['agency',       'text',   'Agency', 'Who awarded it.'],
  ['description',  'text',   'Description', 'For what.']]);
call market.define_metric('quiver_gov_award_usd', 'quiver_gov_contracts', 'announced_on', 'sum(d.amount_usd::numeric)',
  'd.amount_usd is not null', 'Contracts of the government announced on the day, in dollars.');

call market.define_document_table('quiver_app_ratings', 'Ratings of a company''s apps.', array[
  ['rated_on',  'date',   'Time', 'Day of the rating.'],
  ['app',       'text',   'App', 'The app.'],
  ['publisher', 'text',   'Publisher', 'Its publisher.'],
  ['rating',    'number', 'Rating', 'Mean rating, 0 to 5.'],
  ['reviews',   'number', 'Count', 'Reviews behind it.']]);
call market.define_metric('quiver_app_rating', 'quiver_app_ratings', 'rated_on', 'sum(d.rating::numeric * d.reviews::numeric) / sum(d.reviews::numeric)',
  'd.rating between 0 and 5 and d.reviews > 0', 'Mean rating of the apps, weighted by their reviews, 0 to 5.');
call market.define_metric('quiver_app_reviews', 'quiver_app_ratings', 'rated_on', 'sum(d.reviews::numeric)',
  'd.rating between 0 and 5 and d.reviews > 0', 'Reviews of the apps.');

call market.define_document_table('quiver_offexchange', 'Volume off exchanges; known before the next session.', array[
  ['day',          'date',   'Date', 'Session.'],
  ['short_volume', 'number', 'OTC_Short', 'Shares sold short off exchanges.'],
  ['total_volume', 'number', 'OTC_Total', 'Shares traded off exchanges.'],
  ['dpi',          'number', 'DPI', 'The vendor''s own ratio of both.']]);
-- A whole session is asked for as often as a symbol, and this is the one kind with a row for each of both.
create index if not exists quiver_offexchange_day on market.quiver_offexchange (day);
call market.define_metric('quiver_offex_shortvol_ratio', 'quiver_offexchange', 'day', 'sum(d.short_volume::numeric) / sum(d.total_volume::numeric)',
  'd.total_volume > 0 and d.short_volume >= 0 and coalesce(abs(d.short_volume / d.total_volume - d.dpi) < 1e-3, true)',
  'Short volume off exchanges over the total there; left out where the vendor''s own ratio differs by 0.001 or more.');

call market.define_document_table('quiver_political_beta', 'Sensitivity of the price to who wins an election, one row per version. The vendor dates none: known when it came.', array[
  ['day',  'date',   'Date', 'Day, where the vendor says one.'],
  ['beta', 'number', 'TrumpBeta Beta FirstEventBeta', 'Beta to the odds of the candidate that the vendor follows.']]);
call market.define_metric('quiver_political_beta_today', 'quiver_political_beta', null, 'avg(d.beta::numeric)',
  'd.key like ''today/%'' and d.beta is not null', 'Beta to the odds of an election, from the day on which it changed.');
call market.define_metric('quiver_political_beta_bulk', 'quiver_political_beta', 'day', 'avg(d.beta::numeric)',
  'd.key like ''bulk/%'' and d.beta is not null', 'Beta to the odds of an election, of the vendor''s history.');

call market.define_document_table('quiver_etf_weight', 'Weights of a name in funds, one row per version; known when they came.', array[
  ['fund',       'text',   'ETF Fund', 'The fund.'],
  ['weight_pct', 'number', 'Weight WeightPercentage', 'Weight in it, in percent.']]);
call market.define_metric('quiver_etf_weight_pct', 'quiver_etf_weight', null, 'avg(d.weight_pct::numeric)',
  'd.weight_pct is not null', 'Mean weight in the funds whose weight of it was new on the day, in percent.');

call market.record_file('market/quiver.sql', 1);
