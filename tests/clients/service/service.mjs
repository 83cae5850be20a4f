// A real `contact-sync serve` as a child process, its keys and its tokens, and a relay that counts what a client sends.
// ./dev gives the program (CONTACT_SYNC), a database of the script's own (DATABASE_URL) and a simulator of each CRM.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { generateKeyPairSync, randomBytes, sign } from "node:crypto";
import { mkdtempSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";

export const SCOPES = "calls sync contacts.read contacts.erase admin";
/** Nothing takes so long, but on a machine with much else to do. */
export const PATIENCE_MS = 60_000;

export const ok = (name) => console.log(`ok ${name}`);

export async function waitUntil(condition, what) {
  const until = Date.now() + PATIENCE_MS;
  while (!(await condition())) {
    assert.ok(Date.now() < until, `waited in vain: ${what}`);
    await sleep(20);
  }
}

/** Started on a free port; a restart takes the same one. `beside`: another replica, with its keys and database. */
export class Service {
  static started = [];

  constructor(beside, more = {}) {
    Service.started.push(this);
    Object.assign(this, { address: "127.0.0.1:0", lines: [], more });
    if (beside) Object.assign(this, { folder: beside.folder, key: beside.key });
    else this.makeKeys();
  }

  makeKeys() {
    this.folder = mkdtempSync(join(import.meta.dirname, "service-"));
    const { publicKey, privateKey } = generateKeyPairSync("ed25519");
    this.key = privateKey;
    const jwk = { ...publicKey.export({ format: "jwk" }), use: "sig", kid: "test", alg: "EdDSA" };
    const ring = { primary: "k1", keys: [{ id: "k1", key: randomBytes(32).toString("base64") }] };
    writeFileSync(join(this.folder, "jwks.json"), JSON.stringify({ keys: [jwk] }));
    writeFileSync(join(this.folder, "key-ring.json"), JSON.stringify(ring), { mode: 0o600 });
  }

  async start() {
    const settings = {
      listen: this.address,
      reflection: true,
      data_dir: join(this.folder, "data"),
      "auth.jwks_file": join(this.folder, "jwks.json"),
      "vault.key_ring_file": join(this.folder, "key-ring.json"),
      "http.listen": "127.0.0.1:0",
      "http.public_url": "http://localhost:1",
      "admin.listen": "127.0.0.1:0",
      "log.format": "json",
      // The least that may be set: connections change under the script's calls.
      "server.connection_age_max_seconds": 10,
      "worker.poll_ms": 100,
      // A busy machine is no fault: who waits for the database waits on.
      "pools.call.acquire_timeout_ms": 60_000,
      "pools.api.acquire_timeout_ms": 60_000,
      "providers.zendesk.base_url": process.env.ZENDESK_URL,
      "providers.pipedrive.base_url": process.env.PIPEDRIVE_URL,
      "providers.pipedrive.client_id": "client",
      "providers.pipedrive.client_secret": "secret",
      ...this.more,
    };
    const flags = Object.entries(settings).flatMap(([name, value]) => ["--set", `${name}=${value}`]);
    this.process = spawn(process.env.CONTACT_SYNC, [...flags, "serve"], { stdio: ["ignore", "inherit", "pipe"] });
    this.ended = new Promise((resolve) => this.process.once("exit", resolve));
    const lines = createInterface({ input: this.process.stderr });
    const serving = new Promise((resolve) => {
      lines.on("line", (line) => {
        this.lines.push(line);
        if (line.includes('"serving gRPC"')) resolve(JSON.parse(line).listen);
      });
      lines.once("close", () => resolve(null));
    });
    this.address = await serving;
    assert.ok(this.address, `the service has ended: ${this.lines.slice(-5)}`);
  }

  token(accounts = "*", scopes = SCOPES, claims = {}) {
    const encode = (part) => Buffer.from(JSON.stringify(part)).toString("base64url");
    const now = Math.floor(Date.now() / 1000);
    const common = { iss: "contact-sync", aud: "contact-sync", sub: "node", exp: now + 3600, accounts, scope: scopes };
    const signed = `${encode({ alg: "EdDSA", kid: "test" })}.${encode({ ...common, ...claims })}`;
    return `${signed}.${sign(null, Buffer.from(signed), this.key).toString("base64url")}`;
  }

  /** Lines of the log that tell of a fault of the service, of a client that was sent away, or a caller's number. */
  faults() {
    return this.lines.filter((line) => /"ERROR"|"a connection is closed"|panick|3108675309|3105550199/.test(line));
  }
}

/** Stands between a client and the service: counts connections that came through, and the bytes that the client sends. */
export class Relay {
  constructor(address) {
    const [host, port] = address.split(":");
    this.connections = this.sent = 0;
    this.listener = createServer((client) => {
      const server = connect(Number(port), host, () => (this.connections += 1));
      client.on("data", (bytes) => (this.sent += bytes.length));
      for (const [from, to] of [[client, server], [server, client]]) from.pipe(to).on("error", () => from.destroy());
    });
  }

  async open() {
    await new Promise((resolve) => this.listener.listen(0, "127.0.0.1", resolve));
    this.listener.unref();
    return `127.0.0.1:${this.listener.address().port}`;
  }
}
