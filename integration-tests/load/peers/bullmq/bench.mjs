// bench.mjs HOST PORT RUNS TURNS: runs of so many turns, each turn a job that adds the next one.
// Prints how many jobs there were, and the seconds from the first request to the last result.
import { Queue, Worker } from "bullmq";
import { Redis } from "ioredis";

const [host, port, runs, turns] = process.argv.slice(2);
const connect = () => new Redis({ host, port: Number(port), maxRetriesPerRequest: null });
const steps = Number(runs) * Number(turns);
const options = { removeOnComplete: true };
const pad = "x".repeat(240);

const queue = new Queue("turns", { connection: connect() });
await queue.waitUntilReady();
let done = 0;
let finish;
const finished = new Promise((resolve) => { finish = resolve; });
const worker = new Worker("turns", async (job) => {
  if (job.data.left > 0) await queue.add("turn", { left: job.data.left - 1, pad }, options);
}, { connection: connect(), concurrency: 64 });
worker.on("completed", () => { if (++done === steps) finish(); });
worker.on("failed", (job, error) => { console.error(error); process.exit(1); });
await worker.waitUntilReady();

const begun = performance.now();
for (let sent = 0; sent < Number(runs); sent += 512) {
  const count = Math.min(512, Number(runs) - sent);
  await queue.addBulk(Array.from({ length: count }, () => ({ name: "turn", data: { left: Number(turns) - 1, pad }, opts: options })));
}
await finished;
console.log(JSON.stringify({ steps, seconds: (performance.now() - begun) / 1000 }));
process.exit(0);
