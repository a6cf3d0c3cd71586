// Checks a file as `POST /datasets` does, and prints memory and time as JSON.
import { createReadStream } from 'node:fs';
import { DatasetChecker } from '../../../services/api/dist/datasets/dataset-checker.js';

const { file } = JSON.parse(process.argv[2] ?? '');
const began = performance.now();
const checker = new DatasetChecker({ maxBytes: 2 ** 40, maxLineBytes: 10 * 2 ** 20, maxRows: 1e8 });
for await (const chunk of createReadStream(file)) checker.push(chunk);
const { rows } = checker.finish();
const peakBytes = process.resourceUsage().maxRSS * 1024;
process.stdout.write(JSON.stringify({ rows, peakBytes, ms: Math.round(performance.now() - began) }));
