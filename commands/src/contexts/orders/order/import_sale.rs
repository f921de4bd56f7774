//! `ImportSale`: imports a sale of another system, as an order of its own. For batches only.

use crate::{api_command::ApiCommand, command::Target, contexts::orders::sale_body::SaleBody};
use domain::{Order, order};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A sale of another system.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
pub struct ImportSale(SaleBody);

impl ApiCommand for ImportSale {
    type Aggregate = Order;
    const NAME: &'static str = "ImportSale";

    fn target(&self) -> Target<'_> {
        Target::CreatedByThisCommand
    }

    fn to_domain(&self) -> order::Command {
        order::Command::ImportSale(self.0.to_sale())
    }
}
