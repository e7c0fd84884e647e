-- Financial Modeling Prep: statements, expectations, opinions, news. Names of the vendor's present interface first, of its former
-- ones after them: name, reading, members, comment.
call market.require_not_newer('market/fmp.sql', 2);

call market.define_document_table('fmp_income_statement',
  'Income statements, one row per version; known when the filing was accepted.', array[
  ['period_end',       'date',     'date', 'Last day of the fiscal period.'],
  ['period',           'text',     'period', 'Q1 to Q4, or FY.'],
  ['fiscal_year',      'text',     'fiscalYear calendarYear', 'Fiscal year, as the company counts.'],
  ['currency',         'text',     'reportedCurrency', 'Currency of the amounts, ISO 4217.'],
  ['filed_on',         'date',     'filingDate fillingDate', 'Day of the filing.'],
  ['revenue',          'number',   'revenue', 'Sales of the period, in currency.'],
  ['gross_profit',     'number',   'grossProfit', 'Sales less their cost, in currency.'],
  ['operating_income', 'number',   'operatingIncome', 'Operating income, in currency.'],
  ['income_before_tax','number',   'incomeBeforeTax', 'Income before tax, in currency.'],
  ['income_tax',       'number',   'incomeTaxExpense', 'Tax on income, in currency.'],
  ['ebitda',           'number',   'ebitda', 'Earnings before interest, tax, depreciation and amortisation, in currency.'],
  ['net_income',       'number',   'netIncome', 'Net income, in currency.'],
  ['eps',              'number',   'eps', 'Basic earnings per share, in currency.'],
  ['eps_diluted',      'number',   'epsDiluted epsdiluted', 'Diluted earnings per share, in currency.'],
  ['shares_diluted',   'positive', 'weightedAverageShsOutDil', 'Weighted average of diluted shares.']]);

call market.define_document_table('fmp_balance_sheet',
  'Balance sheets, one row per version; known when the filing was accepted.', array[
  ['period_end',       'date',     'date', 'Day of the balance.'],
  ['period',           'text',     'period', 'Q1 to Q4, or FY.'],
  ['fiscal_year',      'text',     'fiscalYear calendarYear', 'Fiscal year, as the company counts.'],
  ['currency',         'text',     'reportedCurrency', 'Currency of the amounts, ISO 4217.'],
  ['filed_on',         'date',     'filingDate fillingDate', 'Day of the filing.'],
  ['total_assets',     'positive', 'totalAssets', 'Total assets, in currency.'],
  ['current_assets',   'number',   'totalCurrentAssets', 'Current assets, in currency.'],
  ['current_liabilities', 'number', 'totalCurrentLiabilities', 'Current liabilities, in currency.'],
  ['cash',             'number',   'cashAndCashEquivalents', 'Cash and its equivalents, in currency.'],
  ['total_debt',       'number',   'totalDebt', 'Debt of all terms, in currency.'],
  ['net_debt',         'number',   'netDebt', 'Debt less cash, in currency.'],
  ['equity',           'number',   'totalStockholdersEquity', 'Equity of the shareholders, in currency.']]);

call market.define_document_table('fmp_cash_flow',
  'Statements of cash flow, one row per version; known when the filing was accepted.', array[
  ['period_end',       'date',     'date', 'Last day of the fiscal period.'],
  ['period',           'text',     'period', 'Q1 to Q4, or FY.'],
  ['fiscal_year',      'text',     'fiscalYear calendarYear', 'Fiscal year, as the company counts.'],
  ['currency',         'text',     'reportedCurrency', 'Currency of the amounts, ISO 4217.'],
  ['filed_on',         'date',     'filingDate fillingDate', 'Day of the filing.'],
  ['operating_cash_flow', 'number', 'operatingCashFlow netCashProvidedByOperatingActivities', 'Cash from operations, in currency.'],
  ['capital_expenditure', 'number', 'capitalExpenditure', 'Capital expenditure, negative, in currency.'],
  ['free_cash_flow',   'number',   'freeCashFlow', 'Cash from operations less capital expenditure, in currency.'],
  ['dividends_paid',   'number',   'netDividendsPaid dividendsPaid', 'Dividends paid, negative, in currency.']]);

call market.define_document_table('fmp_key_metrics',
  'Key metrics, one row per version; the first version is known with the statement of its period, a later one when it came.', array[
  ['period_end',       'date',     'date', 'Last day of the fiscal period; NULL: the last twelve months.'],
  ['period',           'text',     'period', 'Q1 to Q4, or FY; NULL: the last twelve months.'],
  ['market_cap',       'positive', 'marketCap', 'Market capitalisation at the end of the period, in currency.'],
  ['enterprise_value', 'positive', 'enterpriseValue enterpriseValueTTM', 'Enterprise value at the end of the period, in currency.'],
  ['ev_to_sales',      'number',   'evToSales evToSalesTTM enterpriseValueOverRevenue', 'Enterprise value over sales.'],
  ['ev_to_ebitda',     'number',   'evToEBITDA evToEBITDATTM enterpriseValueOverEBITDA', 'Enterprise value over EBITDA.'],
  ['earnings_yield',   'number',   'earningsYield earningsYieldTTM', 'Earnings over market capitalisation.'],
  ['free_cash_flow_yield', 'number', 'freeCashFlowYield freeCashFlowYieldTTM', 'Free cash flow over market capitalisation.'],
  ['return_on_equity', 'number',   'returnOnEquity returnOnEquityTTM roe roeTTM', 'Net income over equity.'],
  ['return_on_invested_capital', 'number', 'returnOnInvestedCapital returnOnInvestedCapitalTTM roic roicTTM', 'Operating income after tax over invested capital.'],
  ['net_debt_to_ebitda', 'number', 'netDebtToEBITDA netDebtToEBITDATTM', 'Net debt over EBITDA.']]);

call market.define_document_table('fmp_ratios',
  'Ratios, one row per version; the first version is known with the statement of its period, a later one when it came.', array[
  ['period_end',       'date',     'date', 'Last day of the fiscal period; NULL: the last twelve months.'],
  ['period',           'text',     'period', 'Q1 to Q4, or FY; NULL: the last twelve months.'],
  ['gross_margin',     'number',   'grossProfitMargin grossProfitMarginTTM', 'Gross profit over sales.'],
  ['net_margin',       'number',   'netProfitMargin netProfitMarginTTM', 'Net income over sales.'],
  ['current_ratio',    'number',   'currentRatio currentRatioTTM', 'Current assets over current liabilities.'],
  ['debt_to_equity',   'number',   'debtToEquityRatio debtToEquityRatioTTM debtEquityRatio', 'Debt over equity.'],
  ['price_to_earnings','number',   'priceToEarningsRatio priceToEarningsRatioTTM priceEarningsRatio', 'Price over earnings per share.'],
  ['price_to_book',    'number',   'priceToBookRatio priceToBookRatioTTM', 'Price over book value per share.'],
  ['dividend_yield',   'number',   'dividendYield dividendYieldTTM', 'Dividends per share over price.']]);

call market.define_document_table('fmp_analyst_estimates',
  'Estimates of analysts for fiscal periods to come and past, one row per version. The vendor dates none: known when they came.', array[
  ['period_end',       'date',     'date', 'Last day of the fiscal period.'],
  ['eps_avg',          'number',   'epsAvg estimatedEpsAvg', 'Mean estimate of earnings per share.'],
  ['eps_high',         'number',   'epsHigh estimatedEpsHigh', 'Highest estimate of earnings per share.'],
  ['eps_low',          'number',   'epsLow estimatedEpsLow', 'Lowest estimate of earnings per share.'],
  ['revenue_avg',      'number',   'revenueAvg estimatedRevenueAvg', 'Mean estimate of sales.'],
  ['revenue_high',     'number',   'revenueHigh estimatedRevenueHigh', 'Highest estimate of sales.'],
  ['revenue_low',      'number',   'revenueLow estimatedRevenueLow', 'Lowest estimate of sales.'],
  ['n_eps',            'number',   'numAnalystsEps numberAnalystsEstimatedEps', 'Analysts behind the estimate of earnings.'],
  ['n_revenue',        'number',   'numAnalystsRevenue numberAnalystEstimatedRevenue', 'Analysts behind the estimate of sales.']]);

call market.define_document_table('fmp_rating',
  'The vendor''s rating of the company; known at the session after its day.', array[
  ['rated_on',         'date',     'date', 'Day of the rating; NULL: the present one.'],
  ['rating',           'text',     'rating', 'A+ to F.'],
  ['score',            'positive', 'overallScore ratingScore', '1 (worst) to 5.']]);

call market.define_document_table('fmp_grades',
  'Grades that brokers give; known at the session after their day.', array[
  ['graded_on',        'date',     'date', 'Day of the grade.'],
  ['broker',           'text',     'gradingCompany', 'Who grades.'],
  ['grade',            'text',     'newGrade', 'The grade, in the words of the broker.'],
  ['previous_grade',   'text',     'previousGrade', 'The grade before.'],
  ['action',           'text',     'action', 'upgrade, downgrade, maintain, initialize, …']]);

call market.define_document_table('fmp_price_targets_v4',
  'Price targets of analysts, as they were published.', array[
  ['analyst',          'text',     'analystName', 'Who set it.'],
  ['broker',           'text',     'analystCompany', 'For whom.'],
  ['target',           'positive', 'priceTarget', 'The target, as published.'],
  ['target_adjusted',  'positive', 'adjPriceTarget', 'The target, adjusted for splits since.'],
  ['price',            'positive', 'priceWhenPosted', 'Price when it was published.']]);

call market.define_document_table('fmp_news',
  'News and press releases, one row per item and symbol.', array[
  ['title',            'text',     'title headline', 'Headline.'],
  ['body',             'text',     'text summary', 'Beginning of the text.'],
  ['publisher',        'text',     'publisher source', 'Who published it.'],
  ['site',             'text',     'site', 'Site it was found on.'],
  ['url',              'text',     'url', 'Address.']]);

call market.define_document_table('fmp_social_sentiment',
  'Posts about a symbol in an hour; known when the hour is over.', array[
  ['stocktwits_posts', 'number',   'stocktwitsPosts', 'Posts on Stocktwits.'],
  ['twitter_posts',    'number',   'twitterPosts', 'Posts on X.'],
  ['stocktwits_sentiment', 'number', 'stocktwitsSentiment', 'Mean sentiment on Stocktwits, 0 to 1.'],
  ['twitter_sentiment', 'number',  'twitterSentiment', 'Mean sentiment on X, 0 to 1.']]);

call market.define_document_table('dim_company_profile',
  'What the company is, one row per version, known when it came: a sector of today says nothing of the past.', array[
  ['name',             'text',     'companyName', 'Name.'],
  ['sector',           'text',     'sector', 'Sector, in the words of the vendor.'],
  ['industry',         'text',     'industry', 'Industry, in the words of the vendor.'],
  ['country',          'text',     'country', 'Country, ISO 3166.'],
  ['exchange',         'text',     'exchange exchangeShortName', 'Exchange.'],
  ['currency',         'text',     'currency', 'Currency of its price.'],
  ['cik',              'text',     'cik', 'Number at the SEC.'],
  ['isin',             'text',     'isin', 'International securities identification number.'],
  ['market_cap',       'positive', 'marketCap mktCap', 'Market capitalisation, in currency.'],
  ['price',            'positive', 'price', 'Price.'],
  ['beta',             'number',   'beta', 'Beta, as the vendor computes it.'],
  ['average_volume',   'number',   'averageVolume volAvg', 'Mean volume of a day.'],
  ['last_dividend',    'number',   'lastDividend lastDiv', 'Dividends of the last year per share.'],
  ['listed_on',        'date',     'ipoDate', 'First trading day.'],
  ['is_etf',           'boolean',  'isEtf', 'Whether it is an exchange-traded fund.'],
  ['is_adr',           'boolean',  'isAdr', 'Whether it is a depositary receipt.'],
  ['is_trading',       'boolean',  'isActivelyTrading', 'Whether it is traded.']]);

call market.define_document_table('fmp_etf_holdings',
  'What a fund holds, one row per version, known when it came; the symbol is that of the name held.', array[
  ['fund',             'text',     'symbol', 'The fund, where the vendor repeats it; the key begins with it.'],
  ['weight_pct',       'number',   'weightPercentage', 'Weight in it, in percent.'],
  ['shares',           'number',   'sharesNumber', 'Shares it holds.'],
  ['market_value',     'number',   'marketValue', 'Their value.']]);
-- Under the name of the vendor who had it first, and of whose offer it is gone.
call market.define_metric('quiver_etf_weight_pct', 'fmp_etf_holdings', null, 'avg(d.weight_pct::numeric)',
  'd.weight_pct is not null', 'Mean weight in the funds whose weight of it was new on the day, in percent.');
call market.define_document_table('fmp_economic_calendar',
  'Releases and decisions by the calendar, one row per version; known when it came, or when it was due if that was seen only afterwards.', array[
  ['due_at',           'timestamp', 'date', 'When it is due, by the clock of UTC; midnight: the day alone is known.'],
  ['country',          'text',     'country', 'Country, ISO 3166.'],
  ['event',            'text',     'event', 'What is released, in the words of the vendor, with the period in brackets.'],
  ['previous',         'number',   'previous', 'The value before, as the calendar shows it.'],
  ['estimate',         'number',   'estimate', 'What is expected.'],
  ['actual',           'number',   'actual', 'What was released; NULL: not yet.'],
  ['unit',             'text',     'unit', 'Unit of the values, in the words of the vendor.']]);

call market.define_document_table('fmp_earnings',
  'Reports of companies by the calendar, one row per version; known when it came, or when the day was over if that was seen only afterwards.', array[
  ['report_on',        'date',     'date', 'Day of the report in New York.'],
  ['time_of_day',      'text',     'time', 'bmo: before the open, amc: after the close; NULL: unknown.'],
  ['eps_actual',       'number',   'epsActual eps', 'Earnings per share as reported; NULL: not yet.'],
  ['eps_estimated',    'number',   'epsEstimated', 'Earnings per share that are expected.'],
  ['revenue_actual',   'number',   'revenueActual revenue', 'Sales as reported; NULL: not yet.'],
  ['revenue_estimated', 'number',  'revenueEstimated', 'Sales that are expected.']]);

-- The vendor does not say when it published metrics of a statement. As first seen they follow from the statement; once they
-- differ, from something that nobody has dated.
create or replace function market.known_with_statement() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  if not exists (select from market.documents d where (d.source, d.kind, d.key) = (new.source, new.kind, new.key)) then
    new.known_at := least(new.known_at, coalesce(
      (select min(s.known_at) from market.fmp_income_statement s
       where s.source = new.source and s.kind = 'fmp_income_statement' and s.key = new.key), new.known_at));
  end if;
  return new;
end
$$;
comment on function market.known_with_statement() is
  'Dates the first version of the metrics of a period by the income statement of the same key.';
create or replace trigger known_with_statement before insert on market.fmp_key_metrics
  for each row execute function market.known_with_statement();
create or replace trigger known_with_statement before insert on market.fmp_ratios
  for each row execute function market.known_with_statement();

-- Calendars of the past are read once, long after: what is listed there was known when it was due and a minute had passed, or, where the
-- hour is unknown, when the day was over in New York. What was seen before it was due is dated by when it came.
create or replace function market.known_when_due() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  day date;
  hour time;
  zone text := 'America/New_York';
begin
  if exists (select from market.documents d where (d.source, d.kind, d.key) = (new.source, new.kind, new.key)) then
    return new;
  end if;
  -- Columns that are generated have no value yet.
  if new.kind = 'fmp_earnings' then
    day := market.json_date(new.payload, 'date');
    hour := case market.json_text(new.payload, 'time') when 'amc' then time '16:05' when 'bmo' then time '07:00' end;
  else
    day := market.json_date(new.payload, 'date');
    hour := nullif(market.json_timestamp(new.payload, 'date')::time, '00:00');
    zone := case when hour is null then zone else 'UTC' end;
  end if;
  new.known_at := least(new.known_at, coalesce(day + hour + interval '1 minute', day + time '24:00') at time zone zone);
  return new;
end
$$;
comment on function market.known_when_due() is
  'Dates the first version of an entry of a calendar that was seen after it had been due.';
create or replace trigger known_when_due before insert on market.fmp_economic_calendar
  for each row execute function market.known_when_due();
create or replace trigger known_when_due before insert on market.fmp_earnings
  for each row execute function market.known_when_due();

call market.record_file('market/fmp.sql', 2);
