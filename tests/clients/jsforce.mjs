// jsforce against the simulated Salesforce. SALESFORCE_URL is the simulator's base URL. Every step prints `ok NAME`;
// the first failure ends with exit code 1.
import assert from "node:assert/strict";
import jsforce from "jsforce";

const base = process.env.SALESFORCE_URL;
const oauth2 = {
  loginUrl: base,
  clientId: process.env.SALESFORCE_CLIENT_ID ?? "client",
  clientSecret: process.env.SALESFORCE_CLIENT_SECRET ?? "secret",
  redirectUri: "http://127.0.0.1:9/callback",
};
const marker = `Jsforce${Date.now()}`;
const name = (number) => `${marker} ${String(number).padStart(4, "0")}`;
const ids = [];

async function check(title, step) {
  await step();
  console.log(`ok ${title}`);
}

/** A client that has been through the web server flow, with PKCE. */
async function authorized() {
  const flow = new jsforce.OAuth2({ ...oauth2, useVerifier: true });
  const url = flow.getAuthorizationUrl({ scope: "api refresh_token", state: "s" });
  const { headers } = await fetch(url, { redirect: "manual" });
  const location = new URL(headers.get("location"));
  assert.equal(location.searchParams.get("state"), "s");
  const connection = new jsforce.Connection({ oauth2: flow, version: "67.0" });
  await connection.authorize(location.searchParams.get("code"));
  return connection;
}

let connection;

await check("authorize", async () => {
  connection = await authorized();
  assert.equal(connection.instanceUrl, base);
  assert.ok(connection.refreshToken);
  assert.equal((await connection.identity()).username, "admin@example.com");
  const refused = new jsforce.OAuth2(oauth2).requestToken("no code");
  await assert.rejects(refused, { name: "invalid_grant" });
});

await check("create", async () => {
  const one = await connection.sobject("Contact").create({ LastName: name(0), Phone: "(415) 555-1212" });
  assert.ok(one.success && one.id.length === 18);
  ids.push(one.id);
  const records = Array.from({ length: 420 }, (_, number) => ({ LastName: name(number + 1) }));
  const many = await connection.sobject("Contact").create(records, { allowRecursive: true });
  assert.ok(many.every((result) => result.success));
  ids.push(...many.map((result) => result.id));
  await assert.rejects(connection.sobject("Contact").create({ FirstName: "x" }), { errorCode: "REQUIRED_FIELD_MISSING" });
});

await check("retrieve", async () => {
  const record = await connection.sobject("Contact").retrieve(ids[0].slice(0, 15));
  assert.equal(record.Id, ids[0]);
  assert.equal(record.LastName, name(0));
  const several = await connection.sobject("Contact").retrieve([ids[1], ids[2]], { fields: ["Id", "Name"] });
  assert.deepEqual(several.map((contact) => contact.Name), [name(1), name(2)]);
});

const mine = `LastName LIKE '${marker} %'`;

await check("pages", async () => {
  const soql = `SELECT Id, Name FROM Contact WHERE ${mine} ORDER BY SystemModstamp, Id`;
  const first = await connection.query(soql, { headers: { "Sforce-Query-Options": "batchSize=200" }, autoFetch: false });
  assert.equal(first.totalSize, 421);
  assert.equal(first.done, false);
  assert.equal(first.records.length, 200);
  const rows = [...first.records];
  for (let page = first; !page.done; rows.push(...page.records)) page = await connection.queryMore(page.nextRecordsUrl);
  assert.deepEqual(rows.map((row) => row.Id), ids);
  const fetched = await connection.query(soql, {
    headers: { "Sforce-Query-Options": "batchSize=200" },
    autoFetch: true,
    maxFetch: 1000,
  });
  assert.equal(fetched.records.length, 421);
});

await check("increment", async () => {
  const { records } = await connection.query(`SELECT SystemModstamp FROM Contact WHERE Id = '${ids[420]}'`);
  const since = records[0].SystemModstamp.replace("+0000", "Z");
  await new Promise((resolve) => setTimeout(resolve, 5));
  await connection.sobject("Contact").update({ Id: ids[7], MobilePhone: "+1 212 555 0100" });
  const soql = `SELECT Id, MobilePhone, SystemModstamp FROM Contact WHERE ${mine} AND SystemModstamp > ${since}`;
  const changed = await connection.query(soql);
  assert.deepEqual(changed.records.map((row) => [row.Id, row.MobilePhone]), [[ids[7], "+1 212 555 0100"]]);
});

await check("relationships", async () => {
  const account = await connection.sobject("Account").create({ Name: marker });
  await connection.sobject("Contact").update({ Id: ids[1], AccountId: account.id });
  const { records } = await connection.query(`SELECT Id, Account.Name FROM Contact WHERE Account.Name = '${marker}'`);
  assert.equal(records[0].Account.Name, marker);
  assert.equal(records[0].Account.attributes.type, "Account");
});

await check("delete and queryAll", async () => {
  await connection.sobject("Contact").destroy(ids[10]);
  const several = await connection.sobject("Contact").destroy([ids[11], ids[12]]);
  assert.ok(several.every((result) => result.success));
  const gone = `SELECT Id FROM Contact WHERE ${mine} AND IsDeleted = true ORDER BY Id`;
  assert.equal((await connection.query(gone)).totalSize, 0);
  const all = await connection.query(gone, { scanAll: true });
  assert.deepEqual(all.records.map((row) => row.Id), ids.slice(10, 13));
  const pages = await connection.query(`SELECT Id, IsDeleted FROM Contact WHERE ${mine} ORDER BY Id`, {
    scanAll: true,
    headers: { "Sforce-Query-Options": "batchSize=200" },
    autoFetch: true,
    maxFetch: 1000,
  });
  assert.equal(pages.records.filter((row) => row.IsDeleted).length, 3);
  assert.equal(pages.records.length, 421);
  await assert.rejects(connection.sobject("Contact").destroy(ids[10]), { errorCode: "ENTITY_IS_DELETED" });
});

await check("undelete", async () => {
  const [result] = await connection.soap.undelete([ids[10]]);
  assert.ok(result.success);
  assert.equal((await connection.query(`SELECT Id FROM Contact WHERE Id = '${ids[10]}'`)).totalSize, 1);
});

await check("merge", async () => {
  const merged = await connection.soap.merge({
    masterRecord: { type: "Contact", Id: ids[20], Title: "Dr" },
    recordToMergeIds: [ids[21], ids[22]],
  });
  assert.ok(merged.success);
  assert.deepEqual(merged.mergedRecordIds, [ids[21], ids[22]]);
  const soql = `SELECT Id, MasterRecordId FROM Contact WHERE MasterRecordId = '${ids[20]}' ORDER BY Id`;
  const losers = await connection.query(soql, { scanAll: true });
  assert.deepEqual(losers.records.map((row) => row.Id), [ids[21], ids[22]]);
  assert.equal((await connection.sobject("Contact").retrieve(ids[20])).Title, "Dr");
});

await check("convert", async () => {
  const lead = await connection.sobject("Lead").create({ LastName: marker, Company: marker, Phone: "12" });
  const result = await connection.soap.convertLead({ leadId: lead.id, convertedStatus: "Closed - Converted" });
  assert.ok(result.success);
  const { IsConverted, ConvertedContactId } = await connection.sobject("Lead").retrieve(lead.id);
  assert.deepEqual([IsConverted, ConvertedContactId], [true, result.contactId]);
});

await check("search", async () => {
  const returning = `RETURNING Contact(Id, Name, Phone WHERE ${mine}), Lead(Id)`;
  const { searchRecords } = await connection.search(`FIND {4155551212} IN PHONE FIELDS ${returning}`);
  assert.deepEqual(searchRecords.map((row) => row.Id), [ids[0]]);
});

await check("describe", async () => {
  const described = await connection.sobject("Contact").describe();
  const phones = described.fields.filter((field) => field.type === "phone").map((field) => field.name);
  for (const field of ["Phone", "MobilePhone", "HomePhone", "OtherPhone", "AssistantPhone"]) assert.ok(phones.includes(field));
  const { sobjects } = await connection.describeGlobal();
  assert.ok(sobjects.some((object) => object.name === "Lead"));
  await assert.rejects(connection.query("SELECT Id, Nothing__c FROM Contact"), { errorCode: "INVALID_FIELD" });
});

await check("deleted and updated", async () => {
  const minute = 60_000;
  const [start, end] = [new Date(Date.now() - 60 * minute), new Date(Date.now() + 2 * minute)];
  const deleted = await connection.sobject("Contact").deleted(start, end);
  assert.ok(Array.isArray(deleted.deletedRecords) && deleted.latestDateCovered && deleted.earliestDateAvailable);
  const updated = await connection.sobject("Contact").updated(start, end);
  assert.ok(Array.isArray(updated.ids) && updated.latestDateCovered);
  const old = connection.sobject("Contact").deleted(new Date(Date.now() - 20 * 24 * 60 * minute), end);
  await assert.rejects(old, { errorCode: "INVALID_REPLICATION_DATE" });
});

await check("limits", async () => {
  const { DailyApiRequests } = await connection.limits();
  assert.ok(DailyApiRequests.Remaining < DailyApiRequests.Max);
  const { apiUsage } = connection.limitInfo;
  assert.equal(apiUsage.limit, DailyApiRequests.Max);
});

await check("bulk2 query", async () => {
  connection.bulk2.pollInterval = 10;
  const stream = await connection.bulk2.query(`SELECT Id, Name, Account.Name, Phone FROM Contact WHERE ${mine} ORDER BY Id`);
  const records = await stream.toArray();
  assert.equal(records.length, 417);
  assert.deepEqual(records[0], { Id: ids[0], Name: name(0), "Account.Name": "", Phone: "(415) 555-1212" });
  assert.equal(records[1]["Account.Name"], marker);
});

await check("refresh", async () => {
  let refreshed = 0;
  const expired = new jsforce.Connection({
    oauth2,
    instanceUrl: base,
    accessToken: "expired!session",
    refreshToken: connection.refreshToken,
    version: "67.0",
  });
  expired.on("refresh", () => (refreshed += 1));
  assert.equal((await expired.query(`SELECT Id FROM Contact WHERE ${mine}`)).totalSize, 417);
  assert.equal(refreshed, 1);
  expired.accessToken = "expired!again";
  await expired.soap.undelete([ids[12]]);
  assert.equal(refreshed, 2);
});

await check("login", async () => {
  const other = new jsforce.Connection({ loginUrl: base, version: "67.0", logLevel: "NONE" });
  const user = await other.login("admin@example.com", "secrettoken");
  assert.ok(user.organizationId.startsWith("00D"));
  assert.equal(other.instanceUrl, base);
  assert.ok((await other.query("SELECT Id FROM User")).totalSize >= 1);
  await assert.rejects(new jsforce.Connection({ loginUrl: base }).login("admin@example.com", "x"), /INVALID_LOGIN/);
});

await check("revoke", async () => {
  await new jsforce.OAuth2(oauth2).revokeToken(connection.refreshToken);
  const flow = new jsforce.OAuth2(oauth2);
  await assert.rejects(flow.refreshToken(connection.refreshToken), { name: "invalid_grant" });
});
