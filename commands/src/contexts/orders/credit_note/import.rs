//! `ImportCreditNote`: imports a credit note of another system. For batches only.

use crate::{api_command::ApiCommand, command::Target, contexts::orders::sale_body::SaleBody};
use domain::{CreditNote, credit_note};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A credit note of another system.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
pub struct ImportCreditNote(SaleBody);

impl ApiCommand for ImportCreditNote {
    type Aggregate = CreditNote;
    const NAME: &'static str = "ImportCreditNote";

    fn target(&self) -> Target<'_> {
        Target::CreatedByThisCommand
    }

    fn to_domain(&self) -> credit_note::Command {
        credit_note::Command::ImportCreditNote(self.0.to_sale())
    }
}
