//! From forecasts to weights: one allocation, the chain that feeds it, the tables and rules of trading.

mod chain;
mod desk;
mod propose;
mod skill;
mod speed;
mod trading;
