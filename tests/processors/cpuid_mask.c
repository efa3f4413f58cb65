/* Hides instructions from a program, so that it takes the way it takes on an older processor, at
 * full speed. Preloaded (LD_PRELOAD) on x86-64 Linux, where the processor can fault on CPUID:
 *
 *   CPUID_HIDE   words LEAF:SUBLEAF:EAX:EBX:ECX:EDX in hexadecimal, separated by spaces; the bits
 *                of the four registers are cleared in what CPUID answers
 *
 * CPUID then raises SIGSEGV, and the handler answers for it. Handlers that the program installs for
 * SIGSEGV are kept beside it and get every other fault. A process started from a masked one is
 * masked too, as it inherits the environment: the kernel itself lifts the fault at exec.
 * Where the processor cannot fault the process ends with 79, so that nothing runs unmasked.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define ARCH_SET_CPUID 0x1012
#define MOST_WORDS 16
#define CANNOT 79

static struct word {
  unsigned leaf, subleaf, hidden[4];
} words[MOST_WORDS];
static int count, ready;
static struct sigaction program; /* what the program wants done about SIGSEGV */
static int (*next_sigaction)(int, const struct sigaction *, struct sigaction *);

static void set_faulting(int on) {
  if (syscall(SYS_arch_prctl, ARCH_SET_CPUID, !on)) {
    perror("cpuid_mask: this processor cannot fault on CPUID");
    _exit(CANNOT);
  }
}

static void hand_on(int signal_number, siginfo_t *info, void *context) {
  if (program.sa_flags & SA_SIGINFO) {
    program.sa_sigaction(signal_number, info, context);
  } else if (program.sa_handler == SIG_DFL || program.sa_handler == SIG_IGN) {
    struct sigaction plain = {.sa_handler = SIG_DFL};
    next_sigaction(SIGSEGV, &plain, NULL); /* the instruction faults again, and ends the process */
    if (info->si_code <= 0) raise(SIGSEGV); /* or the signal was sent, and is sent again */
  } else {
    program.sa_handler(signal_number);
  }
}

static void on_fault(int signal_number, siginfo_t *info, void *context) {
  greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
  const unsigned char *code = (const unsigned char *)registers[REG_RIP];
  if (info->si_code != SI_KERNEL || code[0] != 0x0f || code[1] != 0xa2) {
    hand_on(signal_number, info, context);
    return;
  }
  unsigned leaf = (unsigned)registers[REG_RAX], subleaf = (unsigned)registers[REG_RCX];
  unsigned found[4] = {leaf, 0, subleaf, 0};
  set_faulting(0);
  __asm__ volatile("cpuid" : "+a"(found[0]), "=b"(found[1]), "+c"(found[2]), "=d"(found[3]));
  set_faulting(1);
  for (int i = 0; i < count; i++)
    /* Leaf 1 has no subleaves, and callers leave anything in its register. */
    if (words[i].leaf == leaf && (leaf == 1 || words[i].subleaf == subleaf))
      for (int j = 0; j < 4; j++) found[j] &= ~words[i].hidden[j];
  registers[REG_RAX] = found[0];
  registers[REG_RBX] = found[1];
  registers[REG_RCX] = found[2];
  registers[REG_RDX] = found[3];
  registers[REG_RIP] += 2;
}

int sigaction(int signal_number, const struct sigaction *wanted, struct sigaction *before) {
  if (!next_sigaction) next_sigaction = dlsym(RTLD_NEXT, "sigaction");
  if (signal_number != SIGSEGV || !ready) return next_sigaction(signal_number, wanted, before);
  struct sigaction last = program;
  if (wanted) program = *wanted;
  if (before) *before = last;
  return 0;
}

sighandler_t signal(int signal_number, sighandler_t handler) {
  struct sigaction wanted = {.sa_handler = handler, .sa_flags = SA_RESTART}, before;
  return sigaction(signal_number, &wanted, &before) ? SIG_ERR : before.sa_handler;
}

__attribute__((constructor)) static void begin(void) {
  const char *text = getenv("CPUID_HIDE");
  if (!text || !*text) return;
  int used = 0;
  for (; *text; text += used) {
    struct word *word = &words[count];
    if (count == MOST_WORDS ||
        sscanf(text, "%x:%x:%x:%x:%x:%x %n", &word->leaf, &word->subleaf, &word->hidden[0],
               &word->hidden[1], &word->hidden[2], &word->hidden[3], &used) != 6) {
      fprintf(stderr, "cpuid_mask: CPUID_HIDE has no words LEAF:SUBLEAF:EAX:EBX:ECX:EDX: %s\n", text);
      _exit(CANNOT);
    }
    count++;
  }
  struct sigaction own = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK};
  sigaction(SIGSEGV, &own, &program);
  ready = 1;
  set_faulting(1);
}
