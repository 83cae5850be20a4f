// @grpc/grpc-js against the service: every step prints `ok NAME`; the first failure ends with exit code 1.
import assert from "node:assert/strict";
import * as connections from "./connections.mjs";
import { connect, loadServices, openChannel } from "./contact_sync_client.mjs";
import * as reflection from "./reflection.mjs";
import { ok, PATIENCE_MS, Service } from "./service.mjs";
import { checkCompleteness, Story } from "./story.mjs";

const service = new Service();
try {
  await service.start();
  const services = loadServices(process.env.PROTO);
  const channel = openChannel(service.address, connections.SERVICE_CONFIG);
  await connect(channel, PATIENCE_MS);
  const methods = connections.methodsOf(services, channel);
  checkCompleteness(methods);
  ok("every method has its step");
  const story = new Story(service, methods);
  await story.walk();
  await reflection.check(channel, service, methods, story.kept.account);
  await connections.check(channel, service, services, story.kept);
  channel.close();
  assert.deepEqual(Service.started.flatMap((replica) => replica.faults()), []);
  ok("nothing in the log is a fault");
} catch (error) {
  console.log("the service's log:", ...service.lines.slice(-10));
  throw error;
} finally {
  for (const { process: replica } of Service.started) if (replica?.exitCode === null) replica.kill("SIGKILL");
}
process.exit(0);
