-- What people say of a name, and how much of it: messages of social platforms, and what is counted of them.
call market.require_not_newer('market/social.sql', 1);

-- A list of words is a poor reader: whoever uses it asks for it by the name of the score's source. Another list is another source,
-- since the scores that are stored are those of this one.
create or replace function market.lexicon_score(body text) returns double precision
language sql immutable strict parallel safe set search_path = pg_catalog, pg_temp
as $$
  select (n.up - n.down)::double precision / nullif(n.up + n.down, 0)
  from (
    select count(*) filter (where word = any (
             '{beat,beats,bought,breakout,bull,bullish,buy,buying,call,calls,long,longs,moon,rally,rallying,strong,undervalued,upgrade,upgraded}')) as up,
           count(*) filter (where word = any (
             '{bear,bearish,breakdown,crash,crashing,downgrade,downgraded,dump,dumping,miss,missed,misses,overvalued,put,puts,sell,selling,short,shorts,sold,weak}')) as down
    from regexp_split_to_table(lower(left(lexicon_score.body, 10000) collate "C"), '[^a-z]+') word
  ) n
$$;
comment on function market.lexicon_score(text) is
  'Sentiment by a short list of English words of traders: (bullish - bearish) / (bullish + bearish); NULL: none of them. The score of source lexicon.';

create or replace function market.label_score(label text) returns double precision
language sql immutable strict parallel safe set search_path = pg_catalog, pg_temp
as $$ select case lower(label collate "C") when 'bullish' then 1.0 when 'bearish' then -1.0 end $$;
comment on function market.label_score(text) is 'What the author has marked: 1 for Bullish, -1 for Bearish; NULL: nothing.';

-- A row is a message and one symbol that it is about, so that each symbol has all of its messages, whichever others they name.
call market.define_document_table('social_messages',
  'Messages of social platforms: one row per message, symbol and version, known when it was written.', array[
  ['msg_id',        'text',   'id', 'Number of the message at its source; several rows where it is about several symbols.'],
  ['symbols',       'texts',  'symbols.symbol', 'All it is about, in the spelling of the source; NULL: the source does not say.'],
  ['author',        'text',   'user.username account.acct', 'Who wrote it.'],
  ['followers',     'number', 'user.followers account.followers_count', 'Followers of the author when it was read.'],
  ['body',          'text',   'body content', 'The text.'],
  ['sentiment_raw', 'text',   'entities.sentiment.basic', 'What the author has marked it as: Bullish or Bearish.'],
  ['likes',         'number', 'likes.total favourites_count', 'Likes when it was read.'],
  ['reshares',      'number', 'reshares.reshared_count reblogs_count', 'Reshares when it was read.']]);

do $$
declare
  label constant text := 'market.label_score(payload #>> ''{entities,sentiment,basic}'')';
  body  constant text := 'market.lexicon_score(market.json_text(payload, ''body'', ''content''))';
begin
  execute format('alter table market.social_messages
    add column if not exists score double precision generated always as (coalesce(%1$s, %2$s)) stored,
    add column if not exists score_source text generated always as
      (case when %1$s is not null then ''label'' when %2$s is not null then ''lexicon'' end) stored', label, body);
end
$$;
comment on column market.social_messages.score is 'Sentiment from -1 to 1; NULL: nothing says.';
comment on column market.social_messages.score_source is
  'Where the score is from: label (marked by the author), lexicon (market.lexicon_score); NULL: there is none.';

create index if not exists social_messages_window on market.social_messages (symbol, event_time)
  include (known_at, source, key) where symbol is not null;

create or replace function market.social_features(as_of timestamptz default now(), symbols text[] default null,
  width interval default '1 hour', span interval default '1 day', score_sources text[] default '{label}')
returns table (symbol text, window_end timestamptz, msg_rate_1h double precision, msg_rate_z_30d double precision,
               mean_sent double precision, std_sent double precision, bull_ratio double precision, n_authors bigint, top_handles text[])
language plpgsql stable set search_path = pg_catalog, pg_temp set work_mem = '64MB'
as $$
declare
  -- Windows are numbered from 1970: window k is of the seconds from k * seconds to (k + 1) * seconds.
  seconds  constant bigint := nullif(extract(epoch from social_features.width), 0);
  per_30d  constant bigint := 30 * 86400 / seconds;
  per_week constant bigint := 7 * 86400 / seconds;
  first    bigint;
  last     bigint;
begin
  if 86400 % seconds is distinct from 0 or seconds < 60 then
    raise exception 'width "%" does not divide a day', social_features.width
      using errcode = 'invalid_parameter_value', hint = 'Windows end together with the days of UTC: use ''1 hour'' or ''1 day''.';
  end if;
  if not (isfinite(social_features.as_of) and social_features.span > interval '0' and social_features.span <= interval '100 years') then
    raise exception 'as_of "%" and span "%" have no windows', social_features.as_of, social_features.span
      using errcode = 'invalid_parameter_value', hint = 'Give an instant, and a span of more than nothing and a century at most.';
  end if;
  last := floor(extract(epoch from social_features.as_of) / seconds) - 1;
  first := last + 1 - ceil(extract(epoch from social_features.span) / seconds);
  return query
  with recursive all_names as (
    -- The names that are there, found in the index and not by reading all messages.
    (select m.symbol as name from market.social_messages m where m.symbol is not null order by m.symbol limit 1)
    union all
    select (select m.symbol from market.social_messages m where m.symbol > a.name order by m.symbol limit 1)
    from all_names a where a.name is not null
  ), names as (
    select n.name, begins.k
    from (select a.name from all_names a where a.name is not null and social_features.symbols is null
          union select unnest(social_features.symbols)) n
    cross join lateral (
      -- Silence counts from its first message on.
      select floor(extract(epoch from m.event_time)::double precision / seconds)::bigint as k
      from market.social_messages m
      where m.symbol = n.name and m.known_at < to_timestamp((floor(extract(epoch from m.event_time)::double precision / seconds) + 1) * seconds)
      order by m.event_time limit 1) begins
    where begins.k <= last
  ), counted as (
    select n.name, d.k, count(*)::integer as n
    from names n
    cross join lateral (
      select distinct m.source, m.key, w.k
      from market.social_messages m
      cross join lateral (select floor(extract(epoch from m.event_time)::double precision / seconds)::bigint as k) w
      where m.symbol = n.name and m.event_time >= to_timestamp((first - per_30d) * seconds)
        and m.event_time < to_timestamp((last + 1) * seconds) and m.known_at < to_timestamp((w.k + 1) * seconds)) d
    group by n.name, d.k
  ), histories as (
    select n.name, greatest(n.k, first - per_30d) as k, array_agg(coalesce(c.n, 0) order by g.k) as counts
    from names n
    cross join lateral generate_series(greatest(n.k, first - per_30d), last) g (k)
    left join counted c on c.name = n.name and c.k = g.k
    group by n.name, n.k
  ), rates as (
    select h.name, g.k, h.counts[(g.k - h.k)::integer + 1] as n, z.score
    from histories h
    cross join lateral generate_series(greatest(first, h.k), last) g (k)
    cross join lateral (
      select h.counts[greatest(g.k - h.k - per_30d, 0)::integer + 1 : (g.k - h.k)::integer] as before) b
    left join lateral (
      select (h.counts[(g.k - h.k)::integer + 1] - middle.x) / nullif(1.4826 * spread.x, 0) as score
      from (select percentile_cont(0.5) within group (order by v) as x from unnest(b.before) v) middle
      cross join lateral (select percentile_cont(0.5) within group (order by abs(v - middle.x)) as x from unnest(b.before) v) spread
    ) z on cardinality(b.before) >= per_week
  ), said as (
    -- What was last known of a message before its window was over.
    select distinct on (m.source, m.key) n.name, w.k, m.source, m.author, m.score, m.score_source,
           coalesce(m.followers, 0) * (1 + coalesce(m.likes, 0) + coalesce(m.reshares, 0)) as reach
    from names n
    join market.social_messages m on m.symbol = n.name
    cross join lateral (select floor(extract(epoch from m.event_time)::double precision / seconds)::bigint as k) w
    where m.event_time >= to_timestamp(first * seconds) and m.event_time < to_timestamp((last + 1) * seconds)
      and m.known_at < to_timestamp((w.k + 1) * seconds)
    order by m.source, m.key, m.known_at desc
  ), sentiments as (
    -- In decimals, whose sums do not depend on the order.
    select s.name, s.k, avg(s.score::numeric) as mean, stddev_samp(s.score::numeric) as deviation,
           count(*) filter (where s.score > 0)::double precision / nullif(count(*) filter (where s.score <> 0), 0) as bulls
    from said s where s.score_source = any (social_features.score_sources)
    group by s.name, s.k
  ), voices as (
    select a.name, a.k, count(*) as n, (array_agg(a.author order by a.reach desc, a.author, a.source))[:5] as loudest
    from (select s.name, s.k, s.source, s.author, sum(s.reach::numeric) as reach
          from said s where s.author is not null group by s.name, s.k, s.source, s.author) a
    group by a.name, a.k
  )
  select r.name, to_timestamp((r.k + 1) * seconds), r.n * 3600::double precision / seconds, r.score, s.mean::double precision,
         s.deviation::double precision, s.bulls, coalesce(v.n, 0), coalesce(v.loudest, '{}')
  from rates r
  left join sentiments s on s.name = r.name and s.k = r.k
  left join voices v on v.name = r.name and v.k = r.k
  order by r.name, r.k;
end
$$;
comment on function market.social_features(timestamptz, text[], interval, interval, text[]) is
  'Messages about symbols (NULL: all) in windows that were over at an instant, those of the last span; width 1 hour, 1 day or another part of a day. Of each window the messages written in it and known before its end: messages an hour, robust z of them among the windows of the 30 days before, (x - median) / (1.4826 MAD), NULL with less than seven days or without spread; mean and deviation of the scores of the given sources, share of bulls among those who are either, authors, the five with most followers x (1 + likes + reshares). Windows without a message are there from the first message of a symbol on.';

create or replace view market.social_features as
select f.symbol, f.window_end, f.msg_rate_1h, f.msg_rate_z_30d, f.mean_sent, f.std_sent, f.bull_ratio, f.n_authors, f.top_handles
from market.social_features(now()) f;
comment on view market.social_features is 'market.social_features of now: the hours of the last day.';
create or replace view market.social_features_1d as
select f.symbol, f.window_end, f.msg_rate_1h, f.msg_rate_z_30d, f.mean_sent, f.std_sent, f.bull_ratio, f.n_authors, f.top_handles
from market.social_features(now(), width => '1 day', span => '30 days') f;
comment on view market.social_features_1d is 'market.social_features of now: the last 30 days.';
do $$
declare
  item record;
begin
  for item in
    select v.name, c.name as member, c.says
    from (values ('social_features'), ('social_features_1d')) v (name), (values
      ('symbol',         'Canonical symbol; _MACRO: messages that name none.'),
      ('window_end',     'End of the window, which it does not contain.'),
      ('msg_rate_1h',    'Messages an hour.'),
      ('msg_rate_z_30d', 'Robust z of the rate among the windows of the 30 days before; NULL: less than seven days of them, or no spread.'),
      ('mean_sent',      'Mean score of the messages that their authors have marked, from -1 to 1; NULL: none.'),
      ('std_sent',       'Standard deviation of these scores; NULL: fewer than two.'),
      ('bull_ratio',     'Share of bulls among bulls and bears; NULL: neither.'),
      ('n_authors',      'Authors.'),
      ('top_handles',    'The five authors with most followers x (1 + likes + reshares).')) c (name, says)
  loop
    execute format('comment on column market.%I.%I is %L', item.name, item.member, item.says);
  end loop;
end
$$;

call market.record_file('market/social.sql', 1);
