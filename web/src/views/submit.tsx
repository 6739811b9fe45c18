/* Submitting a task, and learning the command line by the way: the equal command stands below the form while one types. */
import type { ComponentChildren } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import { ApiError, path, post } from '../api/client.ts';
import type { Task } from '../api/types.ts';
import { submitLine } from '../lib/cli_line.ts';
import { EMPTY_FORM, formOf, read, sizeEcho, tell, type Field, type Form, type Told } from '../lib/submit_form.ts';
import { gpusOf, nodeOf } from '../lib/target.ts';
import { go, queryText, to } from '../router.ts';
import { OWNER, remember, remembered } from '../ui/memory.ts';
import { say } from '../ui/orders.tsx';
import { useTitle } from '../ui/parts.tsx';
import { useRest } from '../ui/use_rest.ts';
import { GpuPicker } from './gpu_picker.tsx';

function firstForm(): Form {
  const asked = new URLSearchParams(queryText.value).get('gpu') ?? '';
  const gpus = gpusOf(asked);
  return { ...EMPTY_FORM, owner: remembered(OWNER), choices: gpus.length ? [{ node: nodeOf(asked), gpus }] : [] };
}

function FieldBox({ name, label, problem, hint, children }: { name: Field; label: string; problem: string | undefined; hint?: string | undefined; children: ComponentChildren }) {
  return (
    <div class={problem ? 'field has-problem' : 'field'}>
      <label for={`f-${name}`}>{label}</label>
      {children}
      {problem && (
        <p class="problem" id={`p-${name}`} role="alert">
          {problem}
        </p>
      )}
      {hint && !problem && <p class="hint">{hint}</p>}
    </div>
  );
}

/** A key of its own for each content: pressing twice, or again after a broken connection, submits once. */
function useKey(body: string): string {
  const key = useRef({ body: '', key: '' });
  if (key.current.body !== body) key.current = { body, key: `web-${Date.now().toString(36)}-${Math.random().toString(36).slice(2)}` };
  return key.current.key;
}

export function SubmitView() {
  useTitle('Submit');
  const [form, setForm] = useState<Form>(firstForm);
  const [told, setTold] = useState<Told>({ fields: {}, targets: [] });
  const [wasTried, setTried] = useState(false);
  const [isSending, setSending] = useState(false);
  const like = new URLSearchParams(queryText.value).get('like');
  const model = useRest<Task>(like ? path('tasks', like) : undefined);
  useEffect(() => {
    if (model.data) setForm({ ...formOf(model.data), owner: remembered(OWNER) });
  }, [model.data]);
  const { submission, problems, hint } = read(form);
  const key = useKey(JSON.stringify(submission));
  const change = (part: Partial<Form>): void => {
    setForm((old) => ({ ...old, ...part }));
    setTold({ fields: {}, targets: [] });
  };
  const problem = (field: Field): string | undefined => told.fields[field] ?? (wasTried ? problems[field] : undefined);
  const unplaced = told.targets.filter((refusal) => !form.choices.some((c) => c.node === nodeOf(refusal.target)));
  const input = (field: Field & keyof Form) => ({
    id: `f-${field}`,
    value: form[field] as string,
    'aria-invalid': problem(field) !== undefined,
    ...(problem(field) ? { 'aria-describedby': `p-${field}` } : {}),
    onInput: (e: { currentTarget: { value: string } }) => change({ [field]: e.currentTarget.value }),
  });
  const send = (event: Event): void => {
    event.preventDefault();
    setTried(true);
    if (Object.keys(problems).length || isSending) return;
    setSending(true);
    remember(OWNER, form.owner.trim());
    post<{ tasks: Task[]; notes: string[] }>('/tasks', submission, { 'Idempotency-Key': key })
      .then(({ tasks, notes }) => {
        const one = tasks.length === 1 ? tasks[0] : undefined;
        say([one ? `Task ${one.id} is submitted.` : `${tasks.length} tasks are submitted.`, ...notes].join(' '));
        go(one ? to.task(one.id) : '/tasks');
      })
      .catch((why: unknown) => setTold(why instanceof ApiError ? tell(why.message, why.refusals) : tell(String(why), [])))
      .finally(() => setSending(false));
  };
  return (
    <form class="submit" onSubmit={send} noValidate>
      <div class="view-head">
        <h1>Submit a task</h1>
      </div>
      <section class="card" aria-label="What to run">
        <FieldBox name="command" label="Command" problem={problem('command')} hint={hint}>
          <textarea rows={2} spellcheck={false} autocapitalize="off" placeholder={form.inShell ? 'cd /work && python train.py > log' : 'python train.py --steps 3000'} {...input('command')} />
        </FieldBox>
        <label class="check">
          <input type="checkbox" checked={form.inShell} onChange={(e) => change({ inShell: e.currentTarget.checked })} />
          <span>
            run in a shell (<code>sh -c</code>)
          </span>
        </label>
      </section>
      <section class="card" aria-label="Where to run it">
        <GpuPicker choices={form.choices} refusals={told.targets} onChange={(choices) => change({ choices })} />
        {form.choices.some((c) => c.gpus.length > 1) && (
          <label class="check">
            <input type="checkbox" checked={form.onePerGpu} onChange={(e) => change({ onePerGpu: e.currentTarget.checked })} />
            one task for each GPU
          </label>
        )}
        <div class={unplaced.length || problem('targets') ? 'field has-problem' : 'field'}>
          <label for="f-typed">Further targets</label>
          <input id="f-typed" value={form.typed} placeholder="mynode:0::0,1 node2" spellcheck={false} autocapitalize="off" onInput={(e) => change({ typed: e.currentTarget.value })} />
          {unplaced.map((refusal) => (
            <p key={refusal.target} class="problem" role="alert">
              {refusal.target && <code>{refusal.target}</code>} {refusal.reason}
            </p>
          ))}
          {told.targets.length === 0 && problem('targets') && (
            <p class="problem" role="alert">
              {problem('targets')}
            </p>
          )}
          <p class="hint">
            NODE[:NUMA][::GPU[,GPU…]]. Each target is a task of its own; all are granted or none. With no target at all the system chooses a node, and the task gets no GPU.
          </p>
        </div>
      </section>
      <section class="card" aria-label="How to run it">
        <div class="fields">
          <FieldBox name="name" label="Name" problem={problem('name')} hint="what others see when your GPU is in their way">
            <input maxLength={128} {...input('name')} />
          </FieldBox>
          <FieldBox name="owner" label="Owner" problem={problem('owner')} hint="who you are">
            <input maxLength={128} autocomplete="username" {...input('owner')} />
          </FieldBox>
          <FieldBox name="cores" label="Cores" problem={problem('cores')} hint="reserved, and its limit">
            <input inputMode="numeric" {...input('cores')} />
          </FieldBox>
          <FieldBox name="memory" label="Memory" problem={problem('memory')} hint={sizeEcho(form.memory) || 'such as 16G: reserved, and its limit'}>
            <input {...input('memory')} />
          </FieldBox>
          <FieldBox name="image" label="Image" problem={problem('image')} hint="empty: the node's default">
            <input spellcheck={false} autocapitalize="off" {...input('image')} />
          </FieldBox>
          <FieldBox name="env" label="Variables" problem={problem('env')} hint="NAME=VALUE, one per line">
            <textarea rows={2} spellcheck={false} autocapitalize="off" {...input('env')} />
          </FieldBox>
          <FieldBox name="mounts" label="Mounts" problem={problem('mounts')} hint="/source:/target[:ro], one per line; where the node allows it">
            <textarea rows={2} spellcheck={false} autocapitalize="off" {...input('mounts')} />
          </FieldBox>
        </div>
      </section>
      <section class="card sticky" aria-label="The same on the command line">
        <h2>The same on the command line</h2>
        <pre class="cli" tabIndex={0}>
          <code>{submitLine(submission)}</code>
        </pre>
        <div class="buttons">
          <button type="submit" class="primary" disabled={isSending} aria-busy={isSending}>
            {submission.targets.length > 1 ? `Submit ${submission.targets.length} tasks` : 'Submit'}
          </button>
        </div>
      </section>
    </form>
  );
}
