// What a client does beside plain calls: details of errors, deadlines, cancels, large messages, crowds, pings, a restart.
import * as grpc from "@grpc/grpc-js";
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { call, errorDetails, matchCaller, open, openChannel, watchHealth } from "./contact_sync_client.mjs";
import { ok, PATIENCE_MS, Relay, Service, waitUntil } from "./service.mjs";
import { refused } from "./story.mjs";

export const SERVICE_CONFIG = readFileSync(join(import.meta.dirname, "service-config.json"), "utf8");
const WATCHERS_MAX = 32;
const REPLICAS = {
  "grpc.service_config": '{"loadBalancingConfig": [{"round_robin": {}}]}',
  "grpc.initial_reconnect_backoff_ms": 100, "grpc.max_reconnect_backoff_ms": 1_000,
};
/** Of a connection: a tenth less than what `service` sets. */
const AGE_MAX_MS = 9_000;
const ZENDESK = {
  provider: "PROVIDER_ZENDESK", connection: { zendesk_subdomain: "acme" },
  credentials: { zendesk_api_token: { email: "admin@example.com", token: "secret" } },
};

function metadataOf(token, entries = []) {
  const metadata = new grpc.Metadata();
  for (const [name, value] of [...(token ? [["authorization", `Bearer ${token}`]] : []), ...entries]) metadata.add(name, value);
  return metadata;
}

/** The answer, or of a stream the last; an error with its details otherwise. */
async function answerOf(client, method, request, token, timeoutMs = PATIENCE_MS, { entries, ...options } = {}) {
  const metadata = metadataOf(token, entries);
  const settings = { deadline: Date.now() + timeoutMs, ...options };
  if (method.responseStream) {
    let last;
    for await (const answer of client[method.originalName](request, metadata, settings)) last = answer;
    return last;
  }
  return new Promise((resolve, reject) => {
    client[method.originalName](request, metadata, settings, (error, answer) => (error ? reject(error) : resolve(answer)));
  });
}

/** Every method of the proto files, by its path: called with an object, a token and a deadline. */
export function methodsOf(services, channel) {
  const methods = {};
  for (const Service of Object.values(services.contactsync.v1).filter(({ service }) => service)) {
    const client = open(Service, channel);
    for (const method of Object.values(Service.service)) {
      methods[method.path] = (...given) => answerOf(client, method, ...given);
    }
  }
  return methods;
}

/** What a stream told, and the error that it ended with. */
async function readToError(stream) {
  const seen = [];
  try {
    for await (const answer of stream) seen.push(answer);
  } catch (error) {
    return { seen, error };
  }
  return assert.fail("the stream ended well");
}

async function begun(stream) {
  await new Promise((resolve, reject) => stream.once("data", resolve).once("error", reject));
  // Cancelled later: nobody reads on.
  stream.on("error", () => {});
  return stream;
}

/** Calls and calls; none may fail. */
class Steady {
  constructor(services, target, token, options = {}) {
    Object.assign(this, { failed: [], answered: 0, isStopped: false });
    this.ended = this.call(services, target, token, options);
  }

  async call(services, target, token, options) {
    const channel = new grpc.Channel(target, grpc.credentials.createInsecure(), options);
    const accounts = methodsOf(services, channel)["/contactsync.v1.AccountService/ListAccounts"];
    while (!this.isStopped) {
      await accounts({}, token).then(() => (this.answered += 1), (error) => this.failed.push(error));
      await sleep(2);
    }
    channel.close();
  }

  async stop() {
    this.isStopped = true;
    await this.ended;
    assert.deepEqual(this.failed, []);
    assert.ok(this.answered > 0);
  }
}

class Connections {
  constructor(channel, service, services, kept) {
    Object.assign(this, { channel, service, services, kept, token: service.token() });
    this.account = { account_id: kept.account };
    const { AccountService, CallerService, SyncService } = services.contactsync.v1;
    this.accounts = open(AccountService, channel);
    this.caller = open(CallerService, channel);
    this.sync = open(SyncService, channel);
    this.methods = methodsOf(services, channel);
    // Until the server ends: its connection is told to go meanwhile, for its age.
    this.states = [];
    this.watcher = (async () => {
      for await (const state of watchHealth(open(services.grpc.health.v1.Health, channel))) this.states.push(state);
    })();
  }

  of(name, fields = {}, ...rest) {
    return this.methods[`/contactsync.v1.${name}`]({ ...this.account, ...fields }, this.token, ...rest);
  }

  async getAccount(timeoutMs, options) {
    const { account } = await this.of("AccountService/GetAccount", {}, timeoutMs, options);
    assert.equal(account.id, this.kept.account);
  }

  async refusals() {
    const raw = (path, bytes) => new Promise((resolve, reject) => {
      const done = (error, answer) => (error ? reject(error) : resolve(answer));
      const settings = { deadline: Date.now() + PATIENCE_MS };
      this.accounts.makeUnaryRequest(path, (given) => given, (given) => given, bytes, metadataOf(this.token), settings, done);
    });
    for (const path of ["/contactsync.v1.CallerService/Nobody", "/contactsync.v2.CallerService/MatchCaller"]) {
      await refused(raw(path, Buffer.alloc(0)), "UNIMPLEMENTED", "METHOD_NOT_SERVED");
    }
    const unreadable = raw("/contactsync.v1.AccountService/GetAccount", Buffer.from([0xff]));
    await refused(unreadable, "INVALID_ARGUMENT", "MESSAGE_UNREADABLE");
    const { ErrorInfo } = await refused(this.of("SyncService/EnableSync", ZENDESK), "ALREADY_EXISTS", "INTEGRATION_EXISTS");
    assert.equal(ErrorInfo.metadata.integration_id, this.kept.zendesk);
    ok("refusals say why");
  }

  async example() {
    const ask = (token, callId) => matchCaller(this.caller, token, this.kept.account, "+13105550199", callId, PATIENCE_MS);
    assert.equal((await ask(this.token, "example-1")).selected.display_name, "New Customer");
    assert.equal(await ask("none", "example-2"), null);
    ok("the page's example names the caller");
  }

  async large() {
    for (const size of [70_000, 3_000_000]) {
      const large = this.of("CallerService/MatchCaller", { phone_number: "1".repeat(size) });
      await refused(large, "RESOURCE_EXHAUSTED", "MESSAGE_TOO_LARGE");
    }
    const headers = { entries: [["x-large", "1".repeat(20_000)]] };
    await refused(this.getAccount(PATIENCE_MS, headers), "RESOURCE_EXHAUSTED", "HEADERS_TOO_LARGE");
    await this.getAccount();
    ok("what is too large is refused, and the connection goes on");
  }

  async metadata() {
    const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const entries = [["traceparent", traceparent], ["x-router-bin", Buffer.from([0, 0xff])]];
    await this.getAccount(PATIENCE_MS, { entries });
    const answered = new Promise((resolve) => {
      const metadata = metadataOf(this.token, entries);
      this.accounts.GetAccount(this.account, metadata, { deadline: Date.now() + PATIENCE_MS }, () => {}).once("metadata", resolve);
    });
    // Under this the access log has the call.
    const [requestId] = (await answered).get("x-request-id");
    await waitUntil(() => this.service.lines.some((line) => line.includes(requestId)), "the access log");
    ok("metadata");
  }

  async compression() {
    const channel = new grpc.Channel(this.service.address, grpc.credentials.createInsecure(), {
      "grpc.default_compression_algorithm": grpc.compressionAlgorithms.gzip,
    });
    const compressed = methodsOf(this.services, channel)["/contactsync.v1.AccountService/GetAccount"];
    const refusal = await compressed(this.account, this.token).catch((error) => error);
    await refused(Promise.reject(refusal), "UNIMPLEMENTED", "UNIMPLEMENTED");
    assert.deepEqual(refusal.metadata.get("grpc-accept-encoding"), ["identity"]);
    channel.close();
    ok("compressed messages are refused by name");
  }

  async tls() {
    const file = (name) => join(import.meta.dirname, "tls", name);
    const read = (name) => readFileSync(file(name));
    const service = new Service(this.service, {
      "tls.certificate_file": file("server.pem"), "tls.key_file": file("server.key"), "tls.client_ca_file": file("ca.pem"),
    });
    await service.start();
    const shown = grpc.credentials.createSsl(read("ca.pem"), read("client.key"), read("client.pem"));
    const unavailable = grpc.status.UNAVAILABLE;
    for (const [credentials, code] of [[shown], [grpc.credentials.createSsl(read("ca.pem")), unavailable], [undefined, unavailable]]) {
      const channel = openChannel(`localhost:${service.address.split(":")[1]}`, "{}", credentials);
      const get = methodsOf(this.services, channel)["/contactsync.v1.AccountService/GetAccount"];
      const answer = await get(this.account, this.token).catch((error) => error);
      assert.equal(answer.code, code, answer);
      if (!code) assert.equal(answer.account.id, this.kept.account);
      channel.close();
    }
    service.process.kill("SIGKILL");
    ok("TLS, for those who show a certificate");
  }

  async health() {
    const client = open(this.services.grpc.health.v1.Health, this.channel);
    const names = ["", ...Object.keys(this.services.contactsync.v1).filter((name) => name.endsWith("Service"))
      .map((name) => `contactsync.v1.${name}`)];
    const check = (service) => answerOf(client, { originalName: "Check" }, { service });
    for (const name of names) assert.equal((await check(name)).status, "SERVING");
    const { statuses } = await answerOf(client, { originalName: "List" }, {});
    assert.deepEqual(statuses, Object.fromEntries(names.map((name) => [name, { status: "SERVING" }])));
    await refused(check("nobody"), "NOT_FOUND", "SERVICE_NOT_FOUND");
    for await (const state of watchHealth(client, "nobody")) {
      assert.equal(state, "SERVICE_UNKNOWN");
      break;
    }
    ok("health is told of each service");
  }

  async crowd() {
    const calls = Array.from({ length: 50 }, () => this.of("CallerService/MatchCaller", { phone_number: "+13105550199" }));
    for (const { selected } of await Promise.all(calls)) assert.equal(selected.display_name, "New Customer");
    // More than the streams of one connection: the client waits with some.
    await Promise.all(Array.from({ length: 400 }, () => this.getAccount()));
    ok("a crowd of calls on one channel");
  }

  async pings() {
    const relay = new Relay(this.service.address);
    const channel = new grpc.Channel(await relay.open(), grpc.credentials.createInsecure(), {
      "grpc.keepalive_time_ms": 100, "grpc.keepalive_permit_without_calls": 1,
    });
    const get = methodsOf(this.services, channel)["/contactsync.v1.AccountService/GetAccount"];
    await get(this.account, this.token);
    // Of 17 bytes each.
    const [before, begunAt] = [relay.sent, Date.now()];
    await waitUntil(() => relay.sent >= before + 20 * 17, "pings");
    await get(this.account, this.token);
    // One may be told to go for its age.
    const old = Math.floor((Date.now() - begunAt) / AGE_MAX_MS);
    assert.ok(relay.connections <= 1 + old, "the server has sent the client away");
    channel.close();
    ok("frequent pings are no reason to be sent away");
  }

  async asked() {
    return (await fetch(`${process.env.ZENDESK_URL}/__control/requests`)).text();
  }

  async deadlines() {
    const rule = { path: "/", times: null, fault: { kind: "hang" } };
    await fetch(`${process.env.ZENDESK_URL}/__control/faults`, { method: "POST", body: JSON.stringify(rule) });
    const late = await this.of("SyncService/TestConnection", ZENDESK, 500).catch((error) => error);
    assert.equal(late.code, grpc.status.DEADLINE_EXCEEDED);
    // If the server was first, it has said so.
    assert.ok([undefined, "DEADLINE_EXCEEDED"].includes(errorDetails(late).ErrorInfo?.reason));
    ok("a call ends by its deadline");

    const before = await this.asked();
    let ongoing;
    const cancelled = new Promise((resolve) => {
      const request = { ...this.account, ...ZENDESK };
      ongoing = this.sync.TestConnection(request, metadataOf(this.token), { deadline: Date.now() + PATIENCE_MS }, resolve);
    });
    await waitUntil(async () => (await this.asked()) !== before, "the CRM is asked");
    ongoing.cancel();
    assert.equal((await cancelled).code, grpc.status.CANCELLED);
    await this.getAccount();
    ok("a call is cancelled, and the next is answered");
  }

  async streams() {
    const { sync_run: { id } } = await this.of("SyncService/TriggerSync", { integration_id: this.kept.zendesk });
    this.watch = (timeoutMs = PATIENCE_MS) =>
      this.sync.WatchSyncRun({ ...this.account, sync_run_id: id }, metadataOf(this.token), { deadline: Date.now() + timeoutMs });
    const { seen, error } = await readToError(this.watch(1000));
    assert.equal(error.code, grpc.status.DEADLINE_EXCEEDED);
    assert.ok(seen.length > 0 && seen.every((answer) => answer.sync_run.id === id));
    const stream = this.watch();
    stream.once("data", () => stream.cancel());
    assert.equal((await readToError(stream)).error.code, grpc.status.CANCELLED);
    await this.getAccount();
    ok("streams end by their deadline, or are cancelled");

    const streams = [];
    // A stream that has ended gives its place back when the server has noticed.
    await waitUntil(async () => {
      await begun(this.watch()).then((open) => streams.push(open), (refusal) => assert.equal(errorDetails(refusal).ErrorInfo.reason, "TOO_MANY_WATCHERS"));
      return streams.length === WATCHERS_MAX;
    }, "as many watchers as there may be");
    const { error: one_more } = await readToError(this.watch());
    const details = await refused(Promise.reject(one_more), "RESOURCE_EXHAUSTED", "TOO_MANY_WATCHERS");
    assert.ok(details.RetryInfo.retry_delay.seconds + details.RetryInfo.retry_delay.nanos > 0);
    for (const open of streams) open.cancel();
    ok("RetryInfo says when to come again");
  }

  async restart() {
    const [beside, relay] = [new Service(this.service), new Relay(this.service.address)];
    await beside.start();
    const steady = new Steady(this.services, `ipv4:${await relay.open()},${beside.address}`, this.token, REPLICAS);
    await waitUntil(() => relay.connections > 0 && steady.answered > 0, "both replicas are called");
    const { states, watcher } = this;
    assert.deepEqual(states, ["SERVING"]);
    const stream = this.watch();
    const streamEnd = readToError(stream);
    await new Promise((resolve) => stream.once("data", resolve));
    this.service.process.kill("SIGTERM");
    await waitUntil(() => states.length > 1, "health is told");
    assert.deepEqual(states, ["SERVING", "NOT_SERVING"]);
    await this.getAccount();
    await refused(streamEnd.then(({ error }) => Promise.reject(error)), "UNAVAILABLE", "SHUTTING_DOWN");
    await watcher;
    assert.deepEqual(states, ["SERVING", "NOT_SERVING"]);
    assert.equal(await this.service.ended, 0);
    ok("a server that ends says so, answers meanwhile, and lets nobody hang");

    assert.equal((await this.getAccount(5_000).catch((error) => error)).code, grpc.status.UNAVAILABLE);
    const connected = relay.connections;
    await this.service.start();
    await waitUntil(() => this.getAccount(5_000).then(() => true, (error) => {
      assert.equal(error.code, grpc.status.UNAVAILABLE);
      return false;
    }), "the server is found again");
    ok("the channel finds the server again");
    await waitUntil(() => relay.connections > connected, "the restarted replica is called");
    beside.process.kill("SIGTERM");
    assert.equal(await beside.ended, 0);
    await steady.stop();
    ok("replicas are restarted one after the other, and no call fails");
  }
}

/** A server that is UNAVAILABLE, whatever it is asked, and counts how often. */
async function retries(services) {
  const known = Object.values(services.contactsync.v1).flatMap(({ service }) => Object.values(service ?? {}).map(({ path }) => path));
  for (const { service, method } of JSON.parse(SERVICE_CONFIG).methodConfig.flatMap(({ name }) => name)) {
    assert.ok(known.some((path) => (method ? path === `/${service}/${method}` : path.startsWith(`/${service}/`))), `${service} ${method}`);
  }
  const asked = [];
  const server = new grpc.Server();
  for (const { service } of Object.values(services.contactsync.v1).filter((part) => part.service)) {
    server.addService(service, Object.fromEntries(Object.entries(service).map(([name, { path }]) => [name, (_, reply) => {
      asked.push(path);
      reply({ code: grpc.status.UNAVAILABLE });
    }])));
  }
  const port = await new Promise((resolve, reject) => {
    const credentials = grpc.ServerCredentials.createInsecure();
    server.bindAsync("127.0.0.1:0", credentials, (error, bound) => (error ? reject(error) : resolve(bound)));
  });
  const tries = {
    "CallerService/MatchCaller": 3, "CallerService/SelectMatch": 3, "SyncService/GetIntegration": 4,
    "SyncService/EnableSync": 1, "SyncService/TriggerSync": 1,
  };
  const channel = openChannel(`127.0.0.1:${port}`, SERVICE_CONFIG);
  for (const [name, expected] of Object.entries(tries)) {
    const [service, method] = name.split("/");
    const failed = await call(open(services.contactsync.v1[service], channel), method, {}, "none", PATIENCE_MS).catch((error) => error);
    assert.equal(failed.code, grpc.status.UNAVAILABLE);
    assert.equal(asked.filter((path) => path === `/contactsync.v1.${name}`).length, expected, name);
  }
  channel.close();
  server.forceShutdown();
  ok("the service config repeats what may be repeated, and nothing else");
}

export async function check(channel, service, services, kept) {
  const relay = new Relay(service.address);
  // With nothing set.
  const steady = new Steady(services, await relay.open(), service.token());
  const connections = new Connections(channel, service, services, kept);
  await connections.refusals();
  await connections.example();
  await connections.large();
  await connections.metadata();
  await connections.compression();
  await retries(services);
  await connections.tls();
  await connections.health();
  await connections.crowd();
  await connections.pings();
  await connections.deadlines();
  await connections.streams();
  await waitUntil(() => relay.connections > 1, "a connection is told to go");
  await steady.stop();
  ok("calls go on when the server tells a connection to go");
  await connections.restart();
}
