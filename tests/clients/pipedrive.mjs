// Pipedrive's own client (npm `pipedrive`, generated from its specification) against the simulated Pipedrive.
// PIPEDRIVE_URL is the simulator's base URL. Every step prints `ok NAME`; the first failure ends with exit code 1.
import assert from "node:assert/strict";
import * as v1 from "pipedrive/v1";
import * as v2 from "pipedrive/v2";

const base = process.env.PIPEDRIVE_URL;
const apiKey = process.env.PIPEDRIVE_TOKEN ?? "pipedrive-token";
const config = new v2.Configuration({ apiKey, basePath: `${base}/api/v2` });
const configV1 = new v1.Configuration({ apiKey, basePath: `${base}/api/v1` });
const persons = new v2.PersonsApi(config);
const created = [];

async function check(name, step) {
  await step();
  console.log(`ok ${name}`);
}

async function create(name, phone) {
  const AddPersonRequest = { name, phones: [{ value: phone, primary: true, label: "work" }] };
  const { success, data } = await persons.addPerson({ AddPersonRequest });
  assert.equal(success, true);
  created.push(data.id);
  return data;
}

async function readAll(parameters) {
  const rows = [];
  let cursor;
  do {
    const page = await persons.getPersons({ ...parameters, cursor });
    assert.equal(page.success, true);
    rows.push(...page.data);
    cursor = page.additional_data.next_cursor ?? undefined;
  } while (cursor);
  return rows;
}

await check("me", async () => {
  const { data } = await new v1.UsersApi(configV1).getCurrentUser();
  assert.equal(data.company_domain, "acme");
  assert.ok(data.is_admin);
});

await check("create", async () => {
  const ann = await create("Ann Doe", "+1 (555) 123-4567");
  assert.equal(ann.first_name, "Ann");
  assert.deepEqual(ann.phones, [{ value: "+1 (555) 123-4567", primary: true, label: "work" }]);
  for (let number = 0; number < 4; number += 1) await create(`Person ${number}`, `555 000 ${number}`);
});

await check("show", async () => {
  const { data } = await persons.getPerson({ id: created[0], include_fields: "doi_status" });
  assert.equal(data.name, "Ann Doe");
  assert.match(data.update_time, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
});

await check("list and page", async () => {
  const rows = await readAll({ limit: 2 });
  const ids = rows.map((row) => row.id);
  assert.ok(created.every((id) => ids.includes(id)));
  assert.deepEqual(ids, [...new Set(ids)].sort((a, b) => a - b));
  const some = await readAll({ ids: created.slice(0, 2).join(","), limit: 1 });
  assert.deepEqual(some.map((row) => row.id), created.slice(0, 2));
});

await check("increment", async () => {
  const before = (await persons.getPerson({ id: created[1] })).data.update_time;
  // Times have whole seconds: the change must fall into another one.
  await new Promise((resolve) => setTimeout(resolve, 1100));
  await persons.updatePerson({ id: created[1], UpdatePersonRequest: { name: "Bob Roe" } });
  const { data } = await persons.getPerson({ id: created[1] });
  assert.ok(data.update_time > before);
  const changed = await readAll({ updated_since: data.update_time, sort_by: "update_time", limit: 1 });
  assert.deepEqual(changed.map((row) => row.id), [created[1]]);
  const earlier = await readAll({ updated_until: data.update_time });
  assert.ok(!earlier.some((row) => row.id === created[1]));
  // The client throws the body of a refusal.
  await assert.rejects(persons.getPersons({ updated_since: "2026-01-01T00:00:00.500Z" }), { success: false });
});

await check("update", async () => {
  const phones = [{ value: "555 9", primary: true, label: "mobile" }];
  const { data } = await persons.updatePerson({ id: created[1], UpdatePersonRequest: { phones } });
  assert.deepEqual(data.phones, phones);
});

await check("search", async () => {
  const { data } = await persons.searchPersons({ term: "123-4567", fields: "phone" });
  assert.deepEqual(data.items.map(({ item }) => item.id), [created[0]]);
  assert.deepEqual(data.items[0].item.phones, ["+1 (555) 123-4567"]);
});

await check("merge", async () => {
  const [winner, loser] = [created[1], created[2]];
  const request = { id: loser, MergePersonsRequest: { merge_with_id: winner } };
  const { data } = await new v1.PersonsApi(configV1).mergePersons(request);
  assert.equal(data.id, winner);
  assert.equal(data.merge_what_id, loser);
  assert.deepEqual(data.phone.map((phone) => phone.value), ["555 9", "555 000 1"]);
  assert.ok(!(await readAll({})).some((row) => row.id === loser));
});

await check("delete", async () => {
  const { data } = await persons.deletePerson({ id: created[3] });
  assert.equal(data.id, created[3]);
  assert.ok(!(await readAll({})).some((row) => row.id === created[3]));
  assert.equal((await persons.getPerson({ id: created[3] })).data.is_deleted, true);
});

await check("recents", async () => {
  const api = new v1.RecentsApi(configV1);
  const { data } = await api.getRecents({ since_timestamp: "2000-01-01 00:00:00", items: "person", limit: 500 });
  const deleted = data.find((row) => row.id === created[3]);
  assert.equal(deleted.data.active_flag, false);
});

await check("OAuth", async () => {
  const oauth = new v2.OAuth2Configuration({
    clientId: "client", clientSecret: "secret", redirectUri: "http://localhost/callback", host: base,
  });
  const consent = await fetch(`${oauth.authorizationUrl}&state=s`, { redirect: "manual" });
  const code = new URL(consent.headers.get("location")).searchParams.get("code");
  const tokens = await oauth.authorize(code);
  assert.equal(tokens.api_domain, base);
  const { data } = await new v2.PersonsApi(oauth).getPerson({ id: created[0] });
  assert.equal(data.name, "Ann Doe");
  const first = oauth.accessToken;
  oauth.updateToken(await oauth.tokenRefresh());
  assert.notEqual(oauth.accessToken, first);
  await oauth.revokeToken("refresh_token");
  await assert.rejects(oauth.tokenRefresh());
});
