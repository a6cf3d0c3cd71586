/** The share of the machine that a job gets: keys share it by their weights, and the jobs of a key share the part of the key. */
export interface Share {
  /** The key that sent the job. */
  key: string;
  /** Above 0. */
  keyWeight: number;
  /** Above 0, among the jobs of the key. */
  jobWeight: number;
}

/** Work that waits for an engine call. */
export interface Claim {
  account: JobAccount;
  /** The cost. */
  tokens: number;
}

/** The account of one of several that share. */
class Account {
  weight = 1;
  /** Tokens had, divided by the weight. The waiting account with the least is first. */
  virtualTime = 0;
  /** The choice that it last was part of: of several with the same virtual time, the first is the one that waits longer. */
  lastChoice = 0;

  charge(tokens: number, choice: number): void {
    this.virtualTime += tokens / this.weight;
    this.lastChoice = choice;
  }
}

class KeyAccount extends Account {
  /** The least virtual time of its jobs that wait. */
  now = 0;
  jobs = 0;
}

export class JobAccount extends Account {
  readonly key: KeyAccount;

  constructor(key: KeyAccount) {
    super();
    this.key = key;
  }
}

/**
 * Start-time fair queuing over tokens (Goyal, Vin, Cheng 1996), with two levels: keys, and the jobs of a key.
 *
 * Of those that wait, the one that has had the least for its weight always gets the next engine call. Others join it, in the same order,
 * unless they are ahead of another that waits by more than {@link FairShares.slack} tokens: a job with large micro-batches
 * must not make every pass of a small one long. A job that did not wait for a while has no claim to the time that it left.
 *
 * While one waits, another gets at most `(its weight / that one's weight) · (largest + slack) + slack + largest` tokens, where
 * `largest` is the most that one of them gets in one engine call. This is true for the keys, and for the jobs of a key.
 */
export class FairShares {
  /** The tokens by which a joining job may be ahead. */
  readonly slack: number;
  readonly #keys = new Map<string, KeyAccount>();
  /** The least virtual time of the keys that wait. */
  #now = 0;
  #choices = 0;

  constructor(slack: number) {
    this.slack = slack;
  }

  /** The account of a job that joins. Its key gets this weight. */
  open({ key, keyWeight, jobWeight }: Share): JobAccount {
    const ofKey = this.#keys.get(key) ?? new KeyAccount();
    this.#keys.set(key, ofKey);
    ofKey.weight = keyWeight;
    ofKey.jobs += 1;
    const account = new JobAccount(ofKey);
    account.weight = jobWeight;
    return account;
  }

  close({ key }: JobAccount): void {
    key.jobs -= 1;
    if (key.jobs > 0) return;
    for (const [name, account] of this.#keys) if (account === key) this.#keys.delete(name);
  }

  /** Called when a job begins to wait. */
  wait(job: JobAccount): void {
    job.key.virtualTime = Math.max(job.key.virtualTime, this.#now);
    job.virtualTime = Math.max(job.virtualTime, job.key.now);
  }

  /**
   * Chooses the jobs of the next engine call, and charges them.
   * @param waiting in the order in which they came; at most one of each job
   * @param joins true if a pass that has these can also have the next one
   * @returns the first job, and those that join it; empty only if none waits
   */
  choose<Waiting extends Claim>(
    waiting: readonly Waiting[],
    joins: (chosen: readonly Waiting[], next: Waiting) => boolean,
  ): Waiting[] {
    const choice = ++this.#choices;
    const keys = [...new Set(waiting.map(({ account }) => account.key))];
    this.#now = least(keys);
    for (const key of keys) key.now = least(jobsOf(waiting, key));

    const chosen: Waiting[] = [];
    let open = [...waiting];
    while (open.length > 0) {
      const next = open.reduce((best, one) => (isBefore(one.account, best.account) ? one : best));
      const { account, tokens } = next;
      open = open.filter((one) => one !== next);
      const mayJoin =
        this.#isWithinSlack(account.key, keys) && this.#isWithinSlack(account, jobsOf(waiting, account.key));
      if (chosen.length > 0 && !(mayJoin && joins(chosen, next))) continue;
      chosen.push(next);
      account.charge(tokens, choice);
      account.key.charge(tokens, choice);
    }
    return chosen;
  }

  #isWithinSlack(own: Account, all: readonly Account[]): boolean {
    const others = all.filter((one) => one !== own);
    return others.length === 0 || (own.virtualTime - least(others)) * own.weight <= this.slack;
  }
}

function least(accounts: readonly Account[]): number {
  return accounts.reduce((lowest, { virtualTime }) => Math.min(lowest, virtualTime), Number.POSITIVE_INFINITY);
}

function jobsOf(waiting: readonly Claim[], key: KeyAccount): JobAccount[] {
  return waiting.flatMap(({ account }) => (account.key === key ? [account] : []));
}

function isBefore(one: JobAccount, other: JobAccount): boolean {
  return (compare(one.key, other.key) || compare(one, other)) < 0;
}

function compare(one: Account, other: Account): number {
  return one.virtualTime - other.virtualTime || one.lastChoice - other.lastChoice;
}
