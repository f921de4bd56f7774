//! Faults that a broker does not cause on demand, for tests.

use rdkafka::{ClientContext, client::Client};

/// Makes a producer's client fail fatally.
#[expect(unsafe_code, reason = "the client library has no safe call for it")]
pub(crate) fn fail_fatally(client: &Client<impl ClientContext>) {
    // SAFETY: the handle is alive as long as `client`, and the text ends in a zero byte.
    unsafe {
        rdkafka::bindings::rd_kafka_test_fatal_error(
            client.native_ptr(),
            rdkafka::bindings::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER,
            c"a test".as_ptr(),
        );
    }
}
