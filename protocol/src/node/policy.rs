//! The policy that this node enforces, and what people do with it.

use super::Node;
use crate::id::OpId;
use crate::io::{Act, CommandId, PolicyText, Refusal};
use crate::policy::Question;
use crate::time::Moment;

impl Node {
    pub(super) fn show_policy(&mut self, _: CommandId, _: Option<OpId>) -> Result<(), Refusal> {
        Err(Refusal::NotReady)
    }
    pub(super) fn set_policy(
        &mut self,
        _: CommandId,
        _: &PolicyText,
        _: Moment,
    ) -> Result<(), Refusal> {
        Err(Refusal::NotReady)
    }
    pub(super) fn check_policy(&mut self, _: CommandId, _: &str) -> Result<(), Refusal> {
        Err(Refusal::NotReady)
    }
    pub(super) fn explain_policy(&mut self, _: CommandId, _: Question) -> Result<(), Refusal> {
        Err(Refusal::NotReady)
    }
    pub(super) fn diff_policy(&mut self, _: CommandId, _: &str) -> Result<(), Refusal> {
        Err(Refusal::NotReady)
    }
    pub(super) fn roll_back_policy(
        &mut self,
        _: CommandId,
        _: &OpId,
        _: Act,
        _: Moment,
    ) -> Result<(), Refusal> {
        Err(Refusal::NotReady)
    }
    pub(super) fn log_policy(&mut self, _: CommandId) -> Result<(), Refusal> {
        Err(Refusal::NotReady)
    }
}
