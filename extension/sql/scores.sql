-- Scores of forecasts, and the radii of online calibration as aggregates.

create function _kronos.aci_step(state internal, score float8, level float8, lr float8) returns internal
language c immutable parallel safe
as 'MODULE_PATHNAME', 'aci_step_wrapper';
comment on function _kronos.aci_step is 'Transition of aci_radius.';
create function _kronos.pid_step(state internal, score float8, level float8, lr float8) returns internal
language c immutable parallel safe
as 'MODULE_PATHNAME', 'pid_step_wrapper';
comment on function _kronos.pid_step is 'Transition of pid_radius.';
create function _kronos.radius_final(state internal) returns float8
language c immutable parallel safe
as 'MODULE_PATHNAME', 'radius_final_wrapper';
comment on function _kronos.radius_final is 'Result of aci_radius and pid_radius.';

create aggregate kronos.aci_radius(score float8, level float8, lr float8) (
  sfunc = _kronos.aci_step, stype = internal, finalfunc = _kronos.radius_final, parallel = safe);
comment on aggregate kronos.aci_radius(float8, float8, float8) is
  'Radius that adaptive conformal inference would use next, after the scores in the order of ORDER BY; infinite where it wants more than it '
  'has seen. level as in forecasts, lr its step size.';
create aggregate kronos.pid_radius(score float8, level float8, lr float8) (
  sfunc = _kronos.pid_step, stype = internal, finalfunc = _kronos.radius_final, parallel = safe);
comment on aggregate kronos.pid_radius(float8, float8, float8) is
  'Radius that conformal PID (tracker and integrator) would use next, after the scores in the order of ORDER BY. lr is the step size as a '
  'share of the range of the last 100 scores.';

create function _kronos.coverage_step(state float8[], actual float8, lower float8, upper float8) returns float8[]
language c immutable parallel safe
as 'MODULE_PATHNAME', 'coverage_step_wrapper';
comment on function _kronos.coverage_step is 'Transition of coverage.';
create function _kronos.coverage_combine(a float8[], b float8[]) returns float8[]
language c immutable parallel safe strict
as 'MODULE_PATHNAME', 'coverage_combine_wrapper';
comment on function _kronos.coverage_combine is 'Combination of two states of coverage.';
create function _kronos.coverage_final(state float8[]) returns float8
language c immutable parallel safe strict
as 'MODULE_PATHNAME', 'coverage_final_wrapper';
comment on function _kronos.coverage_final is 'Result of coverage.';
create aggregate kronos.coverage(actual float8, lower float8, upper float8) (
  sfunc = _kronos.coverage_step, stype = float8[], initcond = '{0,0}', finalfunc = _kronos.coverage_final,
  combinefunc = _kronos.coverage_combine, parallel = safe);
comment on aggregate kronos.coverage(float8, float8, float8) is
  'Share of outcomes between lower and upper, both included; rows with a NULL do not count.';

create function kronos.winkler(actual float8, lower float8, upper float8, level float8) returns float8
language c immutable strict parallel safe
as 'MODULE_PATHNAME', 'winkler_wrapper';
comment on function kronos.winkler is
  'Interval score: the width, plus 2 / (1 - level) per unit by which the outcome lies outside. Smaller is better.';
create function kronos.pinball(actual float8, quantile float8, tau float8) returns float8
language c immutable strict parallel safe
as 'MODULE_PATHNAME', 'pinball_wrapper';
comment on function kronos.pinball is 'Loss of a quantile at level tau. Smaller is better.';
create function kronos.crps(actual float8, quantiles float8[], quantile_levels float8[]) returns float8
language c immutable strict parallel safe
as 'MODULE_PATHNAME', 'crps_wrapper';
comment on function kronos.crps is
  'CRPS read off quantiles: twice the mean pinball loss. NULL with fewer than nine levels, which say too little of a distribution.';

insert into _kronos.access (level, kind, object) values
  ('use', 'routine', 'aci_radius'), ('use', 'routine', 'aci_step'),
  ('use', 'routine', 'pid_radius'), ('use', 'routine', 'pid_step'),
  ('use', 'routine', 'radius_final'),
  ('use', 'routine', 'coverage'), ('use', 'routine', 'coverage_step'),
  ('use', 'routine', 'coverage_combine'), ('use', 'routine', 'coverage_final'),
  ('use', 'routine', 'winkler'),
  ('use', 'routine', 'pinball'),
  ('use', 'routine', 'crps');
