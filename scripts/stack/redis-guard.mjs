// Runs the Redis server given by the arguments. Stops it on a signal, or when the stack has ended: the server itself would
// not notice that and would keep its files open.
import { spawn } from 'node:child_process';

const [serverFile = '', ...args] = process.argv.slice(2);
const server = spawn(serverFile, args, { stdio: ['ignore', 'inherit', 'inherit'] });

const end = () => server.kill('SIGTERM');
process.on('SIGTERM', end);
process.on('SIGINT', end);
process.on('disconnect', end);
server.on('error', (error) => {
  console.error(`${serverFile} could not be started: ${error.message}`);
  process.exit(1);
});
server.on('exit', (code, signal) => {
  if (signal) console.error(`${serverFile} was ended by ${signal}`);
  process.exit(code ?? 1);
});
