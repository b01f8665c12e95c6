//! What Prometheus itself says about our metrics.

use serde_json::json;

use crate::ingestor::Ingestor;
use crate::peers::prometheus;

/// With nothing set up the service waits, says so on its panel, and counts. The page of a service at work is checked
/// at the end of the parity story.
#[test]
fn prometheus_has_nothing_to_say_about_the_metrics_of_a_service_that_waits() {
    let mut ingestor = Ingestor::start(&json!({}));
    ingestor.wait_until_alive();
    prometheus::check_metrics(&ingestor.metrics());
    ingestor.stop();
}
