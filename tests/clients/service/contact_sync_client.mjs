// The JavaScript of docs/clients.md, as the tests run it: each block there stands here, word for word.
import * as grpc from "@grpc/grpc-js";
import * as protoLoader from "@grpc/proto-loader";
import protobuf from "protobufjs";

/** One for the whole process: every call shares its connections. */
export function openChannel(address, serviceConfig, credentials = grpc.credentials.createInsecure()) {
  return new grpc.Channel(address, credentials, {
    "grpc.service_config": serviceConfig,
    // A server that was away for long is found within two seconds of its return.
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.max_reconnect_backoff_ms": 2_000,
    // A connection that a firewall has forgotten is noticed before the next phone rings.
    "grpc.keepalive_time_ms": 30_000,
    "grpc.keepalive_timeout_ms": 5_000,
    "grpc.keepalive_permit_without_calls": 1,
  });
}

/** Until the channel is connected. */
export function connect(channel, timeoutMs) {
  return new Promise((resolve, reject) => {
    open(grpc.Client, channel).waitForReady(Date.now() + timeoutMs, (error) => (error ? reject(error) : resolve()));
  });
}

/** The services of the proto files: `services.contactsync.v1.CallerService` and so on. */
export function loadServices(protoFolder) {
  const files = ["account", "caller", "contact", "sync"].map((name) => `contactsync/v1/${name}.proto`);
  const definition = protoLoader.loadSync([...files, "grpc/health/v1/health.proto"], {
    includeDirs: [protoFolder], keepCase: true, longs: String, enums: String, defaults: true, oneofs: true,
  });
  return grpc.loadPackageDefinition(definition);
}

/** A service on the channel. */
export function open(Service, channel) {
  return new Service(channel.getTarget(), null, { channelOverride: channel });
}

/** One call: its answer, or an error with `code` and `metadata`. */
export function call(client, method, request, token, timeoutMs) {
  const metadata = new grpc.Metadata();
  metadata.set("authorization", `Bearer ${token}`);
  return new Promise((resolve, reject) => {
    const done = (error, answer) => (error ? reject(error) : resolve(answer));
    client[method](request, metadata, { deadline: Date.now() + timeoutMs }, done);
  });
}

/** Who is calling; null: connect the call without a name. */
export async function matchCaller(caller, token, account_id, phone_number, call_id, timeoutMs = 300) {
  try {
    return await call(caller, "MatchCaller", { account_id, phone_number, call_id }, token, timeoutMs);
  } catch (error) {
    // The log of your router: the code and the reason, never the number.
    console.log(grpc.status[error.code], errorDetails(error).ErrorInfo);
    return null;
  }
}

// google/rpc/status.proto and error_details.proto, as far as they are needed.
const rpc = protobuf.parse(`
  syntax = "proto3";
  package google.rpc;
  message Any { string type_url = 1; bytes value = 2; }
  message Status { int32 code = 1; string message = 2; repeated Any details = 3; }
  message ErrorInfo { string reason = 1; string domain = 2; map<string, string> metadata = 3; }
  message FieldViolation { string field = 1; string description = 2; }
  message BadRequest { repeated FieldViolation field_violations = 1; }
  message Duration { int64 seconds = 1; int32 nanos = 2; }
  message RetryInfo { Duration retry_delay = 1; }
`, { keepCase: true }).root;

/** What an error carries, by its kind: ErrorInfo, BadRequest, RetryInfo. */
export function errorDetails(error) {
  const [packed] = error.metadata?.get("grpc-status-details-bin") ?? [];
  const found = {};
  for (const { type_url, value } of packed ? rpc.lookupType("google.rpc.Status").decode(packed).details : []) {
    const [, kind] = type_url.split("/google.rpc.");
    if (["ErrorInfo", "BadRequest", "RetryInfo"].includes(kind)) {
      const type = rpc.lookupType(`google.rpc.${kind}`);
      found[kind] = type.toObject(type.decode(value), { longs: Number, defaults: true });
    }
  }
  return found;
}

/** The states of a service as they change; the stream ends when the server does. */
export async function* watchHealth(health, service = "") {
  for await (const answer of health.Watch({ service })) yield answer.status;
}
