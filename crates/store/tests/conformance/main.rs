//! One suite of behaviour that both engines pass: each case below is run on SQLite and PostgreSQL.
//!
//! An engine plugs in with [`Engine`], in the file of its name. A case is an `async fn(&dyn
//! Engine)` in the file of its block and a name in the list at the end of this file.
//!
//! Read in this order: this file, `case` (what cases are built from), then any block.

mod bodies;
mod case;
mod definitions;
mod examine;
mod fences;
mod fuzz;
mod leases;
mod operators;
mod orders;
mod postgres;
mod receiving;
mod sending;
mod sqlite;
mod upkeep;

use std::any::Any;
use std::sync::Arc;

use async_trait::async_trait;
use store::{FenceToken, Store};

/// An engine with a fresh, empty database that goes away when this is dropped.
#[async_trait]
pub trait Engine: Send + Sync {
    /// A `Store` of its own on the one database, as another process would open it.
    async fn open(&self, application: &str) -> Arc<dyn Store>;

    /// Holds what a publish under this fence holds (its locks, its open transaction) until the
    /// answer is dropped, so that a case can see who waits for a publish and who does not.
    async fn begin_publish(&self, fence: &FenceToken) -> Box<dyn Any + Send>;
}

/// Makes a module for each engine with a test for each case.
macro_rules! suite {
    ($($block:ident { $($case:ident)* })*) => {
        suite! { @engine sqlite on_sqlite $($block { $($case)* })* }
        suite! { @engine postgres on_postgres $($block { $($case)* })* }
    };
    (@engine $engine:ident $module:ident $($block:ident { $($case:ident)* })*) => {
        mod $module {$(
            mod $block {$(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    // None: this engine cannot be had here, and it has said so.
                    let Some(engine) = crate::$engine::engine().await else { return };
                    crate::$block::$case(engine.as_ref()).await;
                }
            )*}
        )*}
    };
}

suite! {
    leases {
        a_node_joins_and_each_life_has_a_higher_epoch
        a_node_that_lives_is_not_joined_by_another_process
        a_released_lease_is_taken_at_once
        a_held_lease_is_refused_with_its_holder
        a_silent_holder_is_taken_over_when_its_lease_runs_out
        a_dead_holder_is_taken_over_before_its_lease_runs_out
        an_own_lease_is_taken_again_by_the_same_node
        an_acquire_that_saw_another_epoch_is_refused
        of_two_candidates_one_gets_it
        epochs_only_grow
        renewal_keeps_a_lease
        renewal_after_a_takeover_answers_lost
        renewal_does_not_wait_for_a_publish
        a_release_is_repeatable_and_a_stale_one_is_fenced
        bury_vacates_the_lease_of_a_dead_node_only
        a_move_lives_until_it_is_done
        a_move_to_another_node_survives_an_acquire
        a_token_is_made_a_fence_only_while_it_is_current
        the_snapshot_shows_the_cluster
        presence_tells_who_lives_and_who_left
        a_watch_ends_when_a_peer_dies
        history_is_kept_newest_first
        a_join_tells_how_the_life_before_ended
        effects_outside_the_store_need_more_than_a_lost_connection
    }
    fences {
        publish_is_refused_after_a_takeover
        stage_is_refused_after_a_takeover
        append_is_refused_after_a_takeover
        discard_is_refused_after_a_takeover
        close_receipts_is_refused_after_a_takeover
        take_is_refused_after_a_takeover
        settle_is_refused_after_a_takeover
        every_write_is_refused_after_a_release
    }
    definitions {
        nothing_is_in_force_at_first
        applied_definitions_are_in_force
        a_stale_base_is_refused
        waiting_work_goes_where_its_port_goes
    }
    receiving {
        a_published_message_has_a_receipt_and_work
        an_item_with_an_open_receipt_is_left_out_and_named
        an_item_twice_in_one_batch_is_published_once
        a_closed_receipt_opens_again
        stale_routes_write_nothing
        a_message_without_a_route_is_suspended
        a_message_of_two_routes_goes_with_the_last
        an_empty_batch_is_nothing
    }
    bodies {
        a_body_is_staged_and_published
        another_owner_resumes_a_staged_body
        a_chunk_at_a_wrong_offset_is_refused
        a_discarded_body_is_begun_anew
        a_staged_body_of_another_length_is_not_published
        a_published_body_is_closed_to_appends
        a_large_body_in_memory_is_read_back_in_pieces
        a_body_goes_with_its_message
    }
    sending {
        work_is_taken_oldest_first
        two_takers_do_not_overlap
        work_of_another_host_is_left_alone
        settled_work_is_gone
        settling_twice_is_harmless
        returned_work_is_ready_at_once
        an_uncertain_try_is_remembered
        a_retry_is_ready_after_its_time
        postponed_work_does_not_hold_up_the_rest
        suspended_work_waits_for_an_operator
        a_takeover_gives_held_work_back_as_maybe_delivered
        a_release_gives_held_work_back
        work_whose_take_was_not_answered_is_given_back
        work_held_by_others_is_not_settled
    }
    operators {
        suspended_work_is_resumed
        a_routing_failure_is_resumed_along_new_routes
        work_is_terminated_unless_it_is_active
        work_is_listed_by_state_port_and_id
        backlog_counts_work
        locations_report
    }
    orders {
        an_order_of_a_group_stands_until_the_next
        an_order_of_a_node_stands_until_the_next
        a_node_that_is_gone_is_evicted
        a_node_that_lives_or_owns_is_not_evicted
        resources_report
        reports_of_what_is_no_more_are_forgotten
        operator_events_are_read_in_their_order
        operator_events_wake_who_follows
        many_who_record_events_leave_nothing_out
        what_was_in_flight_at_a_takeover_is_told
    }
    examine {
        a_sound_store_is_found_sound
        an_examination_disturbs_nobody
        two_examinations_take_turns
    }
    upkeep {
        publish_wakes_the_workers
        a_retry_given_back_wakes_the_workers
        changes_of_the_cluster_wake_the_nodes
        sweep_forgets_closed_receipts_only
        sweep_forgets_abandoned_bodies
        the_store_has_a_clock
        the_description_has_no_credentials
    }
    fuzz {
        no_message_is_committed_under_a_stale_epoch
    }
}
