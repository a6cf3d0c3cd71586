import type { MachineLoad, MachineProfile } from '@lorasmith/contracts';
import { bytesText } from '../text-output.js';
import { type Command, print, textTable } from './command.js';

export const MACHINE_COMMANDS: Command[] = [
  {
    name: 'machines',
    positionals: [],
    summary: 'What the workers train on, and what their self-tests found',
    async run(context) {
      const machines = await context.client.machines(context);
      const rows = machines.map(({ worker, engine, running, ...machine }) => [
        worker,
        running === null ? 'no' : `${running.jobs} of ${running.jobs_at_once} jobs`,
        engine.kind,
        engine.card?.name ?? machine.processor,
        engine.card?.compute_capability ?? '-',
        engine.card?.driver ?? '-',
        bytesText(machine.memory_bytes),
        machine.rates.bfloat16 === null ? '-' : rateText(machine.rates.bfloat16.matmul_gflops),
        loadText(running?.load ?? null),
        selfTestText(engine.self_test),
      ]);
      const device = ['ENGINE', 'DEVICE', 'CAPABILITY', 'DRIVER', 'MEMORY', 'BFLOAT16'];
      const columns = ['WORKER', 'RUNS', ...device, 'LOAD', 'SELF-TEST'];
      return print(context, machines, textTable(columns, rows));
    },
  },
];

function rateText(gflops: number): string {
  return gflops < 1000 ? `${Math.round(gflops)} GFLOP/s` : `${(gflops / 1000).toFixed(1)} TFLOP/s`;
}

/** `80 %, 20.1 GB in use`: of the GPU, otherwise of the processor. */
function loadText(load: MachineLoad | null): string {
  if (load === null) return '-';
  const { busy, memory_used_bytes: used } = load.card ?? { ...load, busy: load.processor_busy };
  return `${Math.round(100 * busy)} %, ${bytesText(used)} in use`;
}

function selfTestText(tested: MachineProfile['engine']['self_test']): string {
  if (tested === null) return '-';
  const right = `${tested.cases - tested.failed.length} of ${tested.cases} right`;
  if (tested.kernels === 'raw') return `${right}; plain ops only`;
  return tested.avoided_kernels.length === 0 ? right : `${right}; avoided: ${tested.avoided_kernels.join(', ')}`;
}

export const KEY_COMMANDS: Command[] = [
  {
    name: 'key',
    positionals: [],
    summary: 'The API key of this command, and its role',
    async run(context) {
      const key = await context.client.key(context);
      const text =
        key.id === null ? 'The service has no keys: everything is allowed.' : `${key.id}  ${key.name}, ${key.role}`;
      return print(context, key, text);
    },
  },
];

export const WEBHOOK_COMMANDS: Command[] = [
  {
    name: 'webhook-secret',
    positionals: [],
    summary: 'The secret (whsec_…) with which the webhooks of your jobs are signed',
    async run(context) {
      const secret = await context.client.webhookSecret(context);
      return print(context, { object: 'webhook_secret', secret }, secret);
    },
  },
];
