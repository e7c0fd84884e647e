-- From forecasts to a book. The functions read as the caller, never write and never trade.

comment on column kronos.weight.weight is 'Proposed weight: a fraction of equity, negative for a short.';
comment on column kronos.weight.prev_weight is 'Weight held before.';
comment on column kronos.weight.trade is 'weight - prev_weight.';
comment on column kronos.weight.side is 'long, short or flat: the side of the proposed weight.';
comment on column kronos.weight.expected_return is 'Forecast of the query signals.';
comment on column kronos.weight.risk_share is
  'Share of the book''s variance (of its conditional value at risk with method cvar); shares sum to one.';
comment on column kronos.weight.cost is 'Trading and borrowing cost of the name, a fraction of equity.';
comment on column kronos.weight.binding is
  'Rules that hold with equality for the name: max_weight, min_weight, borrow, adv_weight, halt, net, gross, cash, max_turnover, target_vol, group_x=y, factor_x.';
comment on column kronos.weight.status is
  'NULL, or what befell the name (frozen, reduce_only, vetoed, lost_borrow, grandfathered, held_below_min_notional, rounded_to_shares, ...; '
  'partial_history, short_history), then what the whole book says (relaxed: rule by amount; held: the conflicting rules).';

create function kronos.propose_weights(
  signals text,
  risk text default null,
  method text default 'mean_variance',
  gross float8 default 1.0,
  net numrange default '[0,0]',
  weight_bounds numrange default '[-0.1,0.1]',
  max_turnover float8 default null,
  max_names int default null,
  target_vol float8 default null,
  risk_aversion float8 default 5.0,
  group_limits jsonb default '{}',
  factor_limits jsonb default '{}',
  on_infeasible text default 'error',
  options jsonb default '{}')
returns setof kronos.weight
language c stable parallel restricted cost 100000 rows 100
as 'MODULE_PATHNAME', 'propose_weights_wrapper';
comment on function kronos.propose_weights is
  'Proposes weights inside every rule, sorted by symbol. signals: a SELECT with symbol, expected_return and any of prev_weight, min_weight, '
  'max_weight, shortable, cost_bps, borrow_bps, adv_weight, halt, veto, price, volatility, group_*, factor_*. risk: a SELECT with symbol, ts, ret or '
  'scenario, symbol, ret. method: mean_variance, min_variance, risk_parity, cvar. on_infeasible: error, relax, report. Options: cash_reserve, cvar_level, '
  'equity, estimator, factors, half_life, horizon, min_notional, participation, relaxation, risk_dates, short_margin, shrinkage, whole_share_shorts.';

create type kronos.weight_explanation as (
  kind text, symbol text, item text, value float8, bound float8, slack float8, shadow_price_bps float8, violation float8, status text);
comment on type kronos.weight_explanation is 'One fact about a proposed book.';
comment on column kronos.weight_explanation.kind is
  'book (a figure of the whole book), rule (a limit), conflict (a rule that cannot be met with the others), name, or binding (a rule that holds with equality for a name).';
comment on column kronos.weight_explanation.item is 'The figure, or the rule with its bound, such as group_sector=tech max 0.2.';
comment on column kronos.weight_explanation.value is 'Value of the figure or of the rule in the book; the weight in a row binding.';
comment on column kronos.weight_explanation.bound is 'Bound of the rule.';
comment on column kronos.weight_explanation.slack is 'Distance to the bound, negative where the rule is broken.';
comment on column kronos.weight_explanation.shadow_price_bps is
  'What a looser bound would be worth: basis points of return, net of risk and cost, per unit of weight; a lower bound is looser when it is less. Of an '
  'equality: what one more unit would be worth, negative where less would be better.';
comment on column kronos.weight_explanation.violation is 'By how much the rule is broken, with on_infeasible relax or report.';

create function kronos.explain_weights(
  signals text,
  risk text default null,
  method text default 'mean_variance',
  gross float8 default 1.0,
  net numrange default '[0,0]',
  weight_bounds numrange default '[-0.1,0.1]',
  max_turnover float8 default null,
  max_names int default null,
  target_vol float8 default null,
  risk_aversion float8 default 5.0,
  group_limits jsonb default '{}',
  factor_limits jsonb default '{}',
  on_infeasible text default 'error',
  options jsonb default '{}')
returns setof kronos.weight_explanation
language c stable parallel restricted cost 100000 rows 100
as 'MODULE_PATHNAME', 'explain_weights_wrapper';
comment on function kronos.explain_weights is
  'Why propose_weights with the same arguments proposes what it does: figures of the book, every rule with slack and shadow price, what binds each name.';

create function _kronos.allocate(
  signals text, risk text, method text, gross float8, net numrange, weight_bounds numrange, max_turnover float8, max_names int, target_vol float8,
  risk_aversion float8, group_limits jsonb, factor_limits jsonb, on_infeasible text, options jsonb)
returns jsonb
language c stable parallel restricted cost 100000
as 'MODULE_PATHNAME', 'allocate_wrapper';
comment on function _kronos.allocate is
  'What trading.run_allocation records, of one run of each query and one solve: weights as propose_weights has them with price_usd, '
  'book and rules as explain_weights has them, state of the book, and inputs_sha256 of the rows as they were read.';

insert into _kronos.access (level, kind, object) values
  ('use', 'routine', 'allocate'),
  ('use', 'routine', 'propose_weights'),
  ('use', 'routine', 'explain_weights');
