//! The composed system over real servers: nodes and subcommands as processes of their own. `./dev test`
//! starts the servers and sets the environment.
//!
//! Tests run at the same time, most with a deployment of their own. The tests of [`import`], [`read_models`] and
//! [`queries`], and some of [`positions`], only read the results of one import, and one node refuses the requests of
//! [`requests`], so each of these two groups shares a deployment. The program has a runner of its own, which stops the
//! shared nodes at the end.

mod audit_copies;
mod batch_ends;
mod batches;
mod cells;
mod control_records;
mod corrected_fold;
mod describe;
mod dropped_tables;
mod event_counts;
mod fold_errors;
mod foreign_checkpoints;
mod import;
mod import_faults;
mod import_mode;
mod importer;
mod killed_databases;
mod live;
mod live_websockets;
mod locked_checkpoints;
mod lost_database;
mod lost_registry;
mod missing_schema;
mod nodes;
mod openapi;
mod operator_decisions;
mod outages;
mod parked_events;
mod positions;
mod projector_faults;
mod projectors;
mod queries;
mod read_models;
mod reconcile;
mod record_limits;
mod requests;
mod retries;
mod rights;
mod role_rights;
mod runner;
mod settings;
mod shared_deployment;
mod shared_reading;
mod transactions;
mod used_up_pools;
mod view_builds;
mod view_differences;
mod view_faults;
mod view_metrics;
mod view_versions;
mod void_records;

use libtest_mimic::Trial;
use nodes::{declines, descriptors, faults, hung_disk, many_partitions, membership, topics};
use runner::{Runner, own, shared};
use std::process::ExitCode;

/// The variable that `./dev test --full` sets to include the longest tests.
const FULL: &str = "DEV_TEST_FULL";

fn main() -> ExitCode {
    Runner::new().run(tests)
}

/// All tests, the longest first, so that no long test starts when the others end.
fn tests(runner: &Runner) -> Vec<Trial> {
    let mut tests = Vec::new();
    if std::env::var_os(FULL).is_some() {
        tests.extend(own!(runner, many_partitions: [
            three_nodes_serve_hundreds_of_partitions_and_two_continue_after_the_third_is_killed,
        ]));
        tests.extend(own!(runner, corrected_fold: [
            an_order_that_a_fold_refuses_is_applied_by_a_retry_with_the_corrected_fold,
        ]));
        tests.extend(own!(runner, killed_databases: [
            databases_killed_at_random_points_of_an_import_leave_every_view_right,
        ]));
    }
    tests.extend(tests_of_outages(runner));
    tests.extend(tests_of_nodes(runner));
    tests.extend(tests_of_projectors(runner));
    tests.extend(tests_of_operations(runner));
    tests.extend(tests_of_logs_and_clients(runner));
    tests.extend(tests_of_programs(runner));
    tests.extend(sharing_tests(runner));
    tests
}

/// Tests with a deployment of their own, in which servers or nodes fail.
fn tests_of_outages(runner: &Runner) -> Vec<Trial> {
    let mut tests = Vec::new();
    tests.extend(own!(runner, faults: [
        a_suspended_node_takes_no_partition_from_its_successor,
        nodes_told_to_stop_during_a_kafka_outage_end_in_time,
        a_second_node_with_one_member_name_evicts_the_first_until_the_second_ends,
    ]));
    tests.extend(own!(runner, hung_disk: [
        the_partitions_of_a_node_whose_disk_hangs_move_to_another_until_the_disk_recovers,
        the_partitions_of_a_node_whose_file_system_freezes_move_to_another_until_it_thaws,
        a_node_with_every_role_answers_queries_while_its_file_system_is_frozen_and_loses_no_sale,
        a_node_whose_disk_hangs_shuts_down_in_time_and_loses_no_acknowledged_command,
        a_node_told_to_stop_while_its_file_system_is_frozen_ends_cleanly_once_it_thaws,
        a_node_that_starts_on_a_hung_disk_reports_it_and_serves_once_the_disk_recovers,
        a_node_that_starts_on_a_frozen_file_system_reports_it_and_serves_once_it_thaws,
    ]));
    tests.extend(own!(runner, descriptors: [
        a_node_without_free_descriptors_says_so_and_takes_over_once_the_limit_is_raised,
    ]));
    tests.extend(own!(runner, declines: [
        a_replaced_log_is_declined_by_every_node_with_or_without_a_store,
        a_node_with_another_hash_key_leaves_its_partitions_to_other_nodes,
        the_commands_of_a_node_with_another_hash_key_are_refused_by_the_owners,
        a_node_with_another_hash_key_keeps_answering_queries,
        a_node_that_starts_with_another_hash_key_than_its_store_declines_its_partitions,
        a_deleted_journal_is_not_created_again_until_an_operator_deletes_the_topic_of_owners,
        a_partition_of_a_killed_node_is_not_ready_until_another_node_serves_it,
    ]));
    tests.extend(own!(runner, lost_registry: [
        no_schema_is_registered_while_the_registry_lacks_ids_of_the_log,
        a_node_without_its_state_directory_finds_lost_ids_in_the_log,
        the_audit_reports_ids_of_the_log_that_the_registry_lacks,
        another_schema_under_a_known_id_is_reported_and_not_used,
        a_projector_applies_nothing_while_other_schemas_have_ids_of_the_log,
        schemas_restore_registers_lost_schemas_under_their_old_ids,
        schemas_restore_is_refused_while_other_schemas_have_ids_of_the_log,
        the_audit_compares_the_registry_with_the_known_schemas,
    ]));
    tests.extend(own!(runner, import_faults: [
        an_import_repeated_after_two_kills_of_the_node_is_complete_and_exact,
        a_node_told_to_stop_during_an_import_keeps_every_acknowledged_command,
    ]));
    tests.extend(own!(runner, outages: [
        a_node_started_without_servers_waits_for_each_and_names_it,
        a_kafka_outage_refuses_commands_and_ends_by_itself,
        a_node_whose_memory_budget_is_used_up_refuses_requests_and_stays_alive,
        a_registry_outage_is_named_and_ends_by_itself,
        a_postgres_outage_refuses_its_queries_only_and_ends_by_itself,
        a_cql_outage_refuses_its_queries_only_and_ends_by_itself,
    ]));
    tests.extend(own!(runner, outages: [
        a_node_told_to_stop_while_postgres_is_down_ends_cleanly,
        a_node_told_to_stop_while_postgres_hangs_ends_cleanly,
        a_node_told_to_stop_while_the_cql_store_is_down_ends_cleanly,
        a_node_told_to_stop_while_the_cql_store_hangs_ends_cleanly,
    ]));
    tests.extend(own!(runner, used_up_pools: [
        a_used_up_pool_of_the_projectors_is_named_and_the_views_continue_once_it_is_free,
        a_used_up_pool_of_the_queries_is_named_and_they_are_answered_once_it_is_free,
    ]));
    tests
}

/// Tests of clients and of several nodes that work together, each with a deployment of its own.
fn tests_of_nodes(runner: &Runner) -> Vec<Trial> {
    let mut tests = Vec::new();
    tests.extend(own!(runner, positions: [
        a_query_finds_the_write_of_its_position_at_every_node,
        a_query_with_several_positions_waits_for_each_of_them,
        an_answer_that_lacks_a_position_says_how_far_its_view_is_behind,
        a_view_without_its_database_refuses_or_marks_its_answers_as_stale,
    ]));
    tests.extend(own!(runner, live: [
        a_client_that_resumes_at_any_event_over_a_restart_misses_none_and_gets_none_twice,
        an_event_reaches_the_clients_of_every_node,
        an_order_is_followed_from_the_position_of_its_command,
        a_stream_that_can_not_begin_is_refused,
        a_client_that_does_not_read_is_dropped_with_the_reason,
        clients_in_another_language_read_both_forms,
        a_stream_of_a_stopping_node_ends_with_the_reason,
    ]));
    tests.extend(own!(runner, live_websockets: [
        an_order_is_followed_over_a_websocket_until_the_node_stops,
        a_websocket_of_an_order_that_can_not_begin_is_refused,
        a_websocket_client_that_does_not_read_is_closed_with_the_reason,
    ]));
    tests.extend(own!(runner, membership: [
        a_node_that_joins_under_load_gets_a_share_and_leaves_without_an_error,
        a_killed_node_is_replaced_by_another_and_nothing_is_lost,
        the_only_node_serves_again_after_a_kill_and_nothing_is_lost,
    ]));
    tests.extend(own!(runner, topics: [
        a_journal_with_a_changed_configuration_is_not_written_to_until_it_is_restored,
        a_recreated_journal_is_never_written_to,
    ]));
    tests.extend(own!(runner, nodes: [
        a_command_is_decided_once_whichever_nodes_receive_it,
        a_batch_repeated_at_another_node_gets_the_same_answers,
        a_trace_reaches_the_log_whichever_node_receives_the_command,
        several_nodes_own_every_partition_once,
    ]));
    tests
}

/// Tests of the views' projectors, each with a deployment of its own.
fn tests_of_projectors(runner: &Runner) -> Vec<Trial> {
    let mut tests = Vec::new();
    tests.extend(own!(runner, projector_faults: [
        a_projector_killed_at_random_points_of_an_import_leaves_every_view_right,
        a_projector_suspended_past_its_session_applies_no_event_that_another_has_applied,
        a_projector_suspended_within_a_transaction_does_not_hold_up_its_successor,
        terminated_transactions_of_a_projector_leave_every_view_right,
    ]));
    tests.extend(own!(runner, view_builds: [
        a_rebuilt_view_answers_after_a_switch_and_the_former_build_after_undo,
        a_dropped_build_is_no_longer_described,
        reset_replaces_a_build_by_one_from_the_beginning_of_the_log,
        a_reset_view_refuses_its_queries_until_it_has_caught_up,
    ]));
    tests.extend(own!(runner, view_differences: [
        a_build_of_the_same_events_does_not_differ,
        each_difference_in_postgres_is_explained_by_its_events,
        each_difference_in_the_cql_store_is_explained_by_its_events,
    ]));
    tests.extend(own!(runner, view_versions: [
        the_next_version_replaces_the_former_one_without_a_failed_query,
        a_node_without_the_version_that_answers_names_it_until_a_switch,
    ]));
    tests.extend(own!(runner, view_faults: [
        an_altered_table_is_named_and_the_view_continues_once_it_is_restored,
        a_read_only_database_is_named_and_the_view_continues_once_it_is_writable,
        a_missing_right_is_named_and_the_view_continues_once_it_is_granted,
    ]));
    tests.extend(own!(runner, foreign_checkpoints: [
        a_view_with_a_checkpoint_of_another_log_applies_nothing_until_it_is_reset,
    ]));
    tests.extend(own!(runner, parked_events: [
        an_event_that_a_view_refuses_parks_only_its_order,
        metrics_count_the_events_of_a_parked_order,
        answers_without_a_parked_order_say_that_it_is_parked,
        reconcile_says_that_an_order_is_parked,
        a_retry_applies_a_parked_order_once_the_view_accepts_it,
        a_retry_on_an_idle_journal_projects_a_view_again_that_lost_a_column,
        a_discarded_order_is_listed_with_the_reason_until_a_retry_applies_it,
        an_answer_at_the_position_of_a_parked_order_is_marked_at_a_node_without_projectors,
        a_retry_applies_the_waiting_commits_of_a_product_in_their_order,
        a_poisoned_invoice_of_an_import_parks_its_order_only_until_a_retry,
    ]));
    tests.extend(own!(runner, fold_errors: [
        an_event_whose_row_is_missing_parks_only_its_product_until_a_retry,
    ]));
    tests.extend(own!(runner, projectors: [
        the_partitions_of_a_killed_projector_move_to_another_one,
        the_views_of_a_killed_node_of_a_group_move_to_another_one,
        a_query_at_a_node_without_projectors_finds_the_write_of_its_position,
        a_projector_ends_if_a_journal_has_other_partitions_than_it_was_created_with,
    ]));
    tests.extend(own!(runner, lost_database: [
        every_view_is_projected_again_after_the_database_of_postgres_is_lost,
        only_the_sales_of_a_new_log_are_in_a_cql_store_that_is_older_than_the_log,
    ]));
    tests.extend(own!(runner, dropped_tables: [
        views_whose_tables_are_dropped_are_projected_again,
        a_view_whose_column_is_dropped_is_projected_again,
        a_view_whose_column_is_renamed_names_it_and_continues_once_it_has_its_name_again,
        views_whose_keyspace_is_dropped_are_projected_again,
    ]));
    tests.extend(own!(runner, shared_reading: [
        views_and_jobs_share_one_reader_of_a_journal,
        views_of_a_share_and_jobs_of_all_partitions_share_one_reader,
        a_stalled_view_delays_no_other_reader,
        a_view_that_falls_back_joins_again_and_has_every_sale_once,
        a_stalled_partition_delays_no_other_partition_of_its_view,
    ]));
    tests
}

/// Tests of the means of operators, each with a deployment of its own.
fn tests_of_operations(runner: &Runner) -> Vec<Trial> {
    let mut tests = Vec::new();
    tests.extend(own!(runner, operator_decisions: [
        the_decisions_about_a_parked_product_are_listed_also_after_a_retry_and_a_reset,
    ]));
    tests.extend(own!(runner, view_metrics: [
        the_lag_of_a_stalled_view_is_exported_by_partition_until_it_continues,
        the_histograms_of_a_view_count_its_batches_and_their_events,
        the_metrics_of_a_node_have_the_labels_of_the_catalogue,
    ]));
    tests
}

/// Other tests with a deployment of their own.
fn tests_of_logs_and_clients(runner: &Runner) -> Vec<Trial> {
    let mut tests = Vec::new();
    tests.extend(own!(runner, reconcile: [
        sales_outside_the_file_and_other_currencies_are_not_a_difference,
        a_foreign_record_is_an_error_only_as_the_last_record_of_a_window,
        totals_are_compared_while_sales_arrive,
    ]));
    tests.extend(own!(runner, missing_schema: [
        a_reader_waits_for_a_schema_that_the_registry_refuses_and_skips_no_record,
    ]));
    tests.extend(own!(runner, import_mode: [
        schemas_restore_keeps_the_ids_at_a_registry_with_modes,
    ]));
    tests.extend(own!(runner, void_records: [
        foreign_records_are_counted_as_void_and_stop_no_reader,
        foreign_records_written_while_the_node_is_down_stop_no_reader,
    ]));
    tests.extend(own!(runner, transactions: [
        a_transaction_that_is_held_open_and_then_aborted_stops_no_reader,
        a_transaction_that_is_held_open_and_then_committed_stops_no_reader,
    ]));
    tests.extend(own!(runner, record_limits: [
        a_command_too_large_for_the_topic_is_refused_and_its_neighbours_are_not,
        a_command_too_large_for_a_topic_that_was_changed_is_refused_and_its_neighbours_are_not,
    ]));
    tests.extend(own!(runner, rights: [
        a_node_with_the_documented_rights_serves_and_changes_nothing,
        a_node_that_may_not_write_to_a_journal_refuses_its_commands_with_403,
        a_node_without_one_of_the_documented_rights_is_not_ready,
    ]));
    tests.extend(own!(runner, settings: [
        an_incompatible_schema_ends_the_node_with_the_difference,
        a_taken_port_ends_the_node_with_the_address,
        a_wrong_setting_ends_the_node_with_its_name,
        a_missing_hash_key_ends_the_node_with_the_name_of_the_setting,
        a_state_directory_with_foreign_files_ends_the_node_and_is_not_changed,
    ]));
    tests.extend(own!(runner, retries: [
        a_repeated_command_gets_the_same_answer,
        a_command_repeated_after_a_restart_gets_the_same_answer,
        a_key_stands_for_one_command_also_after_a_restart,
    ]));
    tests.extend(own!(runner, batches: [
        a_bad_line_is_refused_and_the_lines_around_it_are_accepted,
    ]));
    tests.extend(own!(runner, batch_ends: [
        a_client_that_sends_every_line_before_it_reads_gets_every_answer,
        a_client_that_reads_no_answers_does_not_delay_a_shutdown,
        a_client_that_reads_only_after_the_signal_gets_the_last_line,
        a_batch_of_a_stopping_node_reports_where_it_stopped_and_breaks_off,
    ]));
    tests.extend(own!(runner, openapi: [
        the_document_describes_the_answer_to_every_generated_request,
    ]));
    tests.extend(own!(runner, describe: [
        describe_reports_owner_and_epoch_of_a_partition,
        describe_counts_void_records_without_an_alarm,
        describe_of_an_unknown_partition_fails,
        describe_without_kafka_fails_with_the_address,
    ]));
    tests
}

/// Tests of every program at a journal that ends with a control record, and of every program with its own rights, each
/// with a deployment of its own.
fn tests_of_programs(runner: &Runner) -> Vec<Trial> {
    let mut tests = Vec::new();
    tests.extend(own!(runner, control_records: [
        totals_are_compared_up_to_a_control_record,
        views_are_rebuilt_and_compared_up_to_a_control_record,
        a_live_client_resumes_from_before_a_control_record,
    ]));
    tests.extend(own!(runner, role_rights: [
        a_node_of_the_write_side_serves_with_its_documented_rights,
        a_projector_projects_every_view_with_its_documented_rights,
        tools_that_read_the_journals_work_with_their_documented_rights,
        reconcile_works_with_its_documented_rights,
    ]));
    tests
}

/// Tests that share a deployment.
fn sharing_tests(runner: &Runner) -> Vec<Trial> {
    let mut tests = Vec::new();
    tests.extend(shared!(runner, requests: [
        a_body_that_is_not_a_product_is_refused,
        a_body_over_the_limit_is_refused,
        a_price_that_no_product_can_have_is_refused,
        an_unknown_path_method_or_resource_is_refused,
        another_media_type_charset_or_encoding_is_refused,
        a_query_with_an_invalid_parameter_is_refused,
        an_invalid_idempotency_key_is_refused,
        an_invalid_if_match_is_refused,
        if_match_must_be_the_current_version,
        a_repeated_header_is_refused,
        a_request_to_a_host_name_that_is_not_served_is_refused,
        a_browser_can_not_use_the_routes_between_nodes,
    ]));
    tests.extend(shared!(runner, import: [
        the_report_of_the_importer_has_the_totals_of_the_file,
        the_journal_holds_every_invoice_of_the_file_once,
        the_postgres_view_has_the_totals_of_the_file,
        the_cql_view_has_the_totals_of_the_file,
        the_aggregate_topics_have_the_windows_of_the_file,
        reconcile_shows_the_same_total_for_every_source,
        audit_verify_finds_no_void_record_after_an_import,
        a_foreign_client_reads_the_same_totals,
    ]));
    tests.extend(shared!(runner, read_models: [
        the_view_of_orders_has_every_cell_of_the_file,
        the_history_of_orders_has_every_cell_of_the_file,
        the_view_of_customers_has_every_cell_of_the_file,
        the_view_of_countries_has_every_cell_of_the_file,
        the_catalog_has_every_cell_of_the_file,
        the_timelines_have_every_cell_of_the_file,
    ]));
    tests.extend(shared!(runner, queries: [
        the_list_of_a_country_has_its_orders_newest_first,
        the_list_of_a_customer_has_its_orders_newest_first,
        the_list_of_a_day_has_its_orders_newest_first,
        the_list_of_credit_notes_has_every_credit_note_and_no_sale,
        a_list_with_several_filters_has_the_orders_that_match_all,
        an_order_has_its_lines_and_their_sum,
        the_history_of_a_customer_has_all_its_orders,
        the_history_of_an_unknown_customer_is_empty,
        a_series_has_every_window,
        a_filtered_series_has_the_matching_windows,
        a_conditional_get_of_an_unchanged_resource_returns_304,
        the_tag_of_an_order_is_its_version,
        the_openapi_document_has_every_path,
        the_openapi_document_has_the_headers_of_positions,
        the_page_with_the_documentation_is_served,
        metrics_are_served,
        an_answer_has_the_request_id_of_the_client_or_a_new_one,
    ]));
    tests.extend(shared!(runner, positions: [
        an_invalid_position_is_refused,
        a_position_of_a_journal_that_a_view_does_not_read_makes_no_answer_stale,
    ]));
    tests.extend(shared!(runner, audit_copies: [
        a_copy_of_the_log_is_verified,
        an_altered_copy_of_the_log_is_reported,
        a_truncated_copy_of_the_log_is_reported,
    ]));
    // These change the shared deployment, and wait for the tests that read it.
    tests.extend(shared!(runner, import: [
        a_repeated_import_changes_nothing,
        a_restarted_node_publishes_nothing_twice,
    ]));
    tests
}
