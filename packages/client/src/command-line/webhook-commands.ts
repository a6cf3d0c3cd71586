import { type Command, print } from './command.js';

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
