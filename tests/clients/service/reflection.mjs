// Reflection, by its stub: finds the services by it and builds the messages, and they are those of the proto files.
import * as grpc from "@grpc/grpc-js";
import * as protoLoader from "@grpc/proto-loader";
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import protobuf from "protobufjs";
import "protobufjs/ext/descriptor/index.js";
import { call, open } from "./contact_sync_client.mjs";
import { ok, PATIENCE_MS } from "./service.mjs";

/** The package has no server of ours to run: it has the proto files. */
const FOLDER = join(dirname(createRequire(import.meta.url).resolve("@grpc/reflection")), "../proto");

/** Asks one question after the other on one stream. */
async function ask(channel, version, questions) {
  const definition = protoLoader.loadSync(`grpc/reflection/${version}/reflection.proto`, { includeDirs: [FOLDER], keepCase: true });
  const { ServerReflection } = grpc.loadPackageDefinition(definition).grpc.reflection[version];
  const stream = open(ServerReflection, channel).ServerReflectionInfo({ deadline: Date.now() + PATIENCE_MS });
  for (const question of questions) stream.write(question);
  stream.end();
  const answers = [];
  for await (const answer of stream) answers.push(answer);
  return answers;
}

const methodsOf = (definition) =>
  Object.values(definition).filter((part) => !part.format).flatMap((service) => Object.values(service).map(({ path }) => path));

export async function check(channel, service, methods, account) {
  for (const version of ["v1", "v1alpha"]) {
    const [listed] = await ask(channel, version, [{ list_services: "" }]);
    const names = listed.list_services_response.service.map(({ name }) => name);
    const ours = names.filter((name) => name.startsWith("contactsync.v1."));
    assert.ok(names.includes("grpc.health.v1.Health"), names);
    const files = new Map();
    let questions = ours.map((file_containing_symbol) => ({ file_containing_symbol }));
    while (questions.length > 0) {
      for (const { file_descriptor_response: { file_descriptor_proto: protos } } of await ask(channel, version, questions)) {
        for (const bytes of protos) {
          const file = protobuf.descriptor.FileDescriptorProto.decode(bytes);
          files.set(file.name, file);
        }
      }
      const imported = new Set([...files.values()].flatMap(({ dependency }) => dependency).filter((name) => !files.has(name)));
      questions = [...imported].map((file_by_filename) => ({ file_by_filename }));
    }
    const encoded = protobuf.descriptor.FileDescriptorSet.encode({ file: [...files.values()] }).finish();
    const definition = protoLoader.loadFileDescriptorSetFromBuffer(Buffer.from(encoded), { keepCase: true });
    assert.deepEqual(methodsOf(definition).sort(), Object.keys(methods).sort());

    const { AccountService } = grpc.loadPackageDefinition(definition).contactsync.v1;
    const answer = await call(open(AccountService, channel), "GetAccount", { account_id: account }, service.token(), PATIENCE_MS);
    assert.equal(answer.account.id, account);
    ok(`reflection ${version} tells of every method, and builds messages that are understood`);
  }
}
