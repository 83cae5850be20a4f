// Walks story.json: every method rightly and wrongly, in the order in which a customer comes to it.
import * as grpc from "@grpc/grpc-js";
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { errorDetails } from "./contact_sync_client.mjs";
import { ok, PATIENCE_MS } from "./service.mjs";

const STORY = JSON.parse(readFileSync(join(import.meta.dirname, "story.json"), "utf8")).steps;
const CRM_HEADERS = {
  zendesk: { authorization: "Bearer zendesk-token" },
  pipedrive: { "x-api-token": "pipedrive-token" },
};
const pathOf = (step) => `/contactsync.v1.${step.call}`;

/** A method that is added later needs a step, and something wrong to refuse. */
export function checkCompleteness(methods) {
  const told = (steps) => [...new Set(steps.filter((step) => step.call).map(pathOf))].sort();
  assert.deepEqual(told(STORY), Object.keys(methods).sort(), "story.json has other methods");
  assert.deepEqual(told(STORY.filter((step) => step.wrong)), Object.keys(methods).sort(), "nothing wrong is tried of some");
}

/** The value with what `$name` stands for. */
function fill(value, kept) {
  if (Array.isArray(value)) return value.map((inner) => fill(inner, kept));
  if (value && typeof value === "object") {
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, fill(inner, kept)]));
  }
  return typeof value === "string" && value.startsWith("$") ? kept[value.slice(1)] : value;
}

/** What stands at a path. */
function lookUp(message, path) {
  return path.split(".").reduce((found, part) => {
    if (part !== "#") return found[part];
    return typeof found === "string" && found ? "some" : found.length;
  }, message);
}

/** The details of a call that must fail. */
export async function refused(call, code, reason) {
  const error = await call.then((answer) => assert.fail(`was not refused: ${JSON.stringify(answer)}`), (error) => error);
  assert.ok(error.metadata, error);
  const details = errorDetails(error);
  assert.deepEqual([grpc.status[error.code], details.ErrorInfo?.domain, details.ErrorInfo?.reason], [code, "contactsync", reason], error.message);
  return details;
}

/** `methods`: by path, what calls a method with an object, a token and a deadline. */
export class Story {
  constructor(service, methods) {
    Object.assign(this, { service, methods, kept: { account: randomUUID(), request: randomUUID() } });
  }

  async walk() {
    let chapter;
    for (const step of STORY) {
      if (step.chapter) {
        if (chapter) ok(`every method: ${chapter}`);
        ({ chapter } = step);
      } else if (step.crm) await this.askCrm(step);
      else await this.call(step);
    }
    ok(`every method: ${chapter}`);
  }

  async call(step) {
    const send = fill(step.send, this.kept);
    const answers = (token, changed = {}) => this.methods[pathOf(step)]({ ...send, ...changed }, token, PATIENCE_MS);
    if (step.wrong) await this.refuse(step, answers);
    const answer = await answers(this.service.token());
    for (const [path, expected] of Object.entries(step.expect ?? {})) {
      assert.equal(lookUp(answer, path), fill(expected, this.kept), `${step.call}: ${path}`);
    }
    for (const [name, path] of Object.entries(step.keep ?? {})) this.kept[name] = lookUp(answer, path);
  }

  async refuse(step, answers) {
    const { account } = this.kept;
    const wrong = answers(this.service.token(), fill(step.wrong, this.kept));
    const { BadRequest } = await refused(wrong, "INVALID_ARGUMENT", "INVALID_ARGUMENT");
    const fields = new Set(BadRequest.field_violations.map(({ field }) => field));
    assert.deepEqual([...fields].sort(), [...step.fields].sort(), step.call);
    assert.ok(BadRequest.field_violations.every(({ description }) => description));

    await refused(answers(null), "UNAUTHENTICATED", "TOKEN_MISSING");
    await refused(answers(this.service.token("*", undefined, { exp: 1 })), "UNAUTHENTICATED", "TOKEN_EXPIRED");
    const { ErrorInfo } = await refused(answers(this.service.token(account, "other")), "PERMISSION_DENIED", "SCOPE_MISSING");
    assert.ok(ErrorInfo.metadata.scope, step.call);
    const stranger = this.service.token([randomUUID()]);
    if (step.send.account_id) await refused(answers(stranger), "NOT_FOUND", "ACCOUNT_NOT_FOUND");
    else assert.deepEqual((await answers(stranger)).accounts, []);
  }

  async askCrm(step) {
    const [first, last] = step.numbers ?? [0, 0];
    let said;
    for (let number = first; number <= last; number += 1) {
      const answer = await fetch(process.env[`${step.crm.toUpperCase()}_URL`] + step.path.replace("{}", number), {
        method: step.method, body: step.body && JSON.stringify(step.body),
        headers: { "content-type": "application/json", ...CRM_HEADERS[step.crm] },
      });
      assert.ok(answer.ok, `${step.path}: ${answer.status}`);
      said = await answer.text();
    }
    for (const [name, path] of Object.entries(step.keep ?? {})) this.kept[name] = String(lookUp(JSON.parse(said), path));
  }
}
