// node-zendesk against the simulated Zendesk. ZENDESK_URL is the simulator's base URL. Every step prints `ok NAME`; the
// first failure ends with exit code 1.
import assert from "node:assert/strict";
import zendesk from "node-zendesk";

const base = process.env.ZENDESK_URL;
const client = zendesk.createClient({ username: "admin@example.com", token: "secret", endpointUri: `${base}/api/v2` });
const created = [];

async function check(name, step) {
  await step();
  console.log(`ok ${name}`);
}

async function create(fields) {
  const { result } = await client.users.create({ user: fields });
  created.push(result.id);
  return result;
}

const ids = (users) => users.map((user) => user.id);

await check("me", async () => {
  const { result } = await client.users.me();
  assert.equal(result.role, "admin");
});

await check("create", async () => {
  const ann = await create({ name: "Node Ann", email: "node.ann@example.com", phone: "+15550100" });
  assert.equal(ann.shared_phone_number, false);
  assert.equal((await create({ name: "Node Bob", phone: "+15550100" })).shared_phone_number, true);
  for (let number = 0; number < 120; number += 1) await create({ name: `Node ${number}` });
  await assert.rejects(create({ name: "Twice", email: "Node.Ann@example.com" }));
});

await check("show", async () => {
  assert.equal((await client.users.show(created[0])).result.name, "Node Ann");
  assert.deepEqual(ids((await client.users.showMany(created.slice(0, 2))).result), created.slice(0, 2));
});

await check("list and page", async () => {
  const listed = ids(await client.users.list());
  assert.ok(created.every((id) => listed.includes(id)));
  assert.equal(new Set(listed).size, listed.length);
});

await check("increment", async () => {
  const { result } = await client.users.update(created[1], { user: { notes: "changed" } });
  assert.equal(result.notes, "changed");
  // This client reads the export by time, whose last second comes again: it must end all the same.
  const changed = ids(await client.users.incremental(0));
  assert.ok(created.every((id) => changed.includes(id)));
});

await check("identities", async () => {
  const identity = { type: "phone_number", value: "+15550199" };
  const { result } = await client.useridentities.create(created[0], { identity });
  assert.equal(result.value, "+15550199");
  const values = (await client.useridentities.list(created[0])).map((known) => known.value);
  assert.deepEqual(values, ["node.ann@example.com", "+15550100", "+15550199"]);
  await client.useridentities.delete(created[0], result.id);
  assert.equal((await client.useridentities.list(created[0])).length, 2);
});

await check("update", async () => {
  const { result } = await client.users.update(created[0], { user: { phone: "+15550111", name: "Node Ann D" } });
  assert.equal(result.phone, "+15550111");
});

await check("search", async () => {
  const found = await client.users.search({ query: "phone:*5550111" });
  assert.deepEqual(ids(found), [created[0]]);
  const { result } = await client.search.query("type:user phone:*5550111");
  assert.deepEqual(ids(result), [created[0]]);
});

await check("merge", async () => {
  const { result } = await client.users.merge(created[2], created[0]);
  assert.equal(result.id, created[0]);
  assert.equal((await client.users.show(created[2])).result.active, false);
});

await check("delete", async () => {
  await client.users.delete(created[1]);
  assert.equal((await client.users.show(created[1])).result.active, false);
  assert.ok(!ids(await client.users.list()).includes(created[1]));
});
