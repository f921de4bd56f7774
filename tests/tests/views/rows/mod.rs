//! The rows that each view has in its database: one file per view. `events` has values that a database may distort, and
//! the events of orders. `sales` has sales and credit notes for views that add them up.

mod catalog_v1;
mod country_sales_v1;
mod customers_v1;
mod events;
mod order_timeline_v1;
mod orders_by_customer_v2;
mod orders_v2;
mod orders_v3;
mod sales;
