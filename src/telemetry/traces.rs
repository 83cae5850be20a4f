//! What one call, or one run, went through: spans, sent to a collector by OTLP. Which calls are
//! traced is decided once, where they come in; of others no span is made. Spans hold what the log
//! may hold, and nothing else.

use std::{sync::OnceLock, time::Duration};

use opentelemetry::{
    Context, KeyValue,
    propagation::{Extractor, TextMapPropagator as _},
    trace::{TraceContextExt as _, TracerProvider as _},
};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{Sampler, SdkTracerProvider},
};
use tracing::{Metadata, Span, Subscriber, subscriber::Interest};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::{
    Layer,
    filter::{LevelFilter, dynamic_filter_fn},
    layer::Context as LayerContext,
    registry::LookupSpan,
};
use uuid::Uuid;

/// The target of spans that begin what is traced. Others are traced within such a one.
pub const ROOT_TARGET: &str = "contact_sync::traced";
/// The header that names the trace a call belongs to (W3C Trace Context, level 1, §3.2).
pub const TRACEPARENT: &str = "traceparent";
/// How long the collector may take for one batch.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long what is left may take at the end.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Of a thousand calls without a `traceparent`, so many are traced. Not set: none at all.
static PER_MILLE: OnceLock<u32> = OnceLock::new();

/// The way to the collector. When it is dropped, what is left is sent.
pub struct TraceExport(SdkTracerProvider);

impl TraceExport {
    /// Begins to trace so many of a thousand calls (0 to 1000), and those of which somebody else
    /// has decided it. `endpoint` is a collector's, for OTLP over gRPC: `http://127.0.0.1:4317`.
    /// Spans wait in a queue of 2,048; beyond it they are dropped. `instance` tells this process
    /// from others. Inside a runtime.
    pub fn start(endpoint: &str, sampled_per_mille: u32, instance: Uuid) -> Result<Self, ExporterBuildError> {
        let exporter =
            SpanExporter::builder().with_tonic().with_endpoint(endpoint).with_timeout(EXPORT_TIMEOUT).build()?;
        let resource = Resource::builder_empty()
            .with_service_name("contact-sync")
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .with_attribute(KeyValue::new("service.instance.id", instance.to_string()))
            .build();
        let provider = SdkTracerProvider::builder()
            .with_resource(resource)
            // Decided before: what is made is wanted.
            .with_sampler(Sampler::AlwaysOn)
            .with_batch_exporter(exporter)
            .build();
        let _ = PER_MILLE.set(sampled_per_mille);
        Ok(Self(provider))
    }

    /// Makes spans of what is traced.
    pub fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let is_traced = |metadata: &Metadata<'_>, context: &LayerContext<'_, S>| {
            // Only what this filter lets through is seen in the context.
            may_be_traced(metadata) && (metadata.target() == ROOT_TARGET || context.lookup_current().is_some())
        };
        // Asked once of each place in the code: all that libraries could say costs a call nothing.
        let interest = |metadata: &'static Metadata<'static>| {
            if may_be_traced(metadata) { Interest::sometimes() } else { Interest::never() }
        };
        tracing_opentelemetry::layer()
            .with_tracer(self.0.tracer("contact-sync"))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_filter(
                dynamic_filter_fn(is_traced).with_callsite_filter(interest).with_max_level_hint(LevelFilter::DEBUG),
            )
    }

    /// Sends what waits, now; blocks the thread.
    pub fn flush(&self) {
        let _ = self.0.force_flush();
    }
}

impl Drop for TraceExport {
    fn drop(&mut self) {
        let _ = self.0.shutdown_with_timeout(FLUSH_TIMEOUT);
    }
}

/// A span of ours: a connection to a CRM is begun within a request, and lives on with its own.
fn may_be_traced(metadata: &Metadata<'_>) -> bool {
    metadata.is_span() && metadata.target().starts_with("contact_sync")
}

/// By what the trace of this span is found; `None`: there is no collector.
pub fn trace_id(span: &Span) -> Option<String> {
    let context = span.context();
    let told = context.span().span_context().clone();
    told.is_valid().then(|| told.trace_id().to_string())
}

/// What a call that is traced belongs to.
pub struct TraceParent(Option<Context>);

struct OneHeader<'a>(&'a str);

impl Extractor for OneHeader<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        (key == TRACEPARENT).then_some(self.0)
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT]
    }
}

impl TraceParent {
    /// Whether a call is traced: as its `traceparent` says, else by chance. `random` is anything up
    /// to `u32::MAX`.
    pub fn decide(traceparent: Option<&str>, random: impl FnOnce() -> u32) -> Option<Self> {
        let per_mille = *PER_MILLE.get()?;
        let context = traceparent
            .map(|text| TraceContextPropagator::new().extract_with_context(&Context::new(), &OneHeader(text)))
            .filter(|context| context.span().span_context().is_valid());
        let is_traced = match &context {
            Some(context) => context.span().span_context().is_sampled(),
            None => u64::from(random()) * 1000 < u64::from(per_mille) << 32,
        };
        is_traced.then_some(Self(context))
    }

    /// Makes the span a part of the trace.
    pub fn adopt(self, span: &Span) {
        if let Some(context) = self.0 {
            let _ = span.set_parent(context);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Others' word counts; without it chance does, and without a collector nothing is traced.
    #[test]
    fn traced_is_what_others_or_chance_decide() {
        let traceparent = |flag: &str| format!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{flag}");
        assert!(TraceParent::decide(Some(&traceparent("01")), || 0).is_none(), "there is no collector");
        PER_MILLE.set(10).unwrap();

        assert!(TraceParent::decide(Some(&traceparent("01")), || u32::MAX).is_some());
        assert!(TraceParent::decide(Some(&traceparent("00")), || 0).is_none());
        for garbled in [None, Some("00-0-0-01"), Some("")] {
            assert!(TraceParent::decide(garbled, || u32::MAX / 101).is_some());
            assert!(TraceParent::decide(garbled, || u32::MAX / 99).is_none());
        }
    }
}
