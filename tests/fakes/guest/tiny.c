/* A guest of a few kilobytes that QEMU starts in a tenth of a second: says what it sees on the serial port and does what
 * its command line (which begins with the file's name) asks for: "off" powers off at once, "reset" restarts once and then stays, "wait" stays. Staying, it
 * prints a dot now and then and powers off when the power button is pressed. */

#define HEADER_FLAGS 0x00010000u

__attribute__((section(".mb"), used, aligned(4))) static const unsigned header[] = {
    0x1BADB002u, HEADER_FLAGS, 0u - (0x1BADB002u + HEADER_FLAGS), 0x100000u, 0x100000u, 0u, 0u, 0x100040u};

enum {
    SERIAL = 0x3f8,
    PM1_STATUS = 0x600,
    PM1_ENABLE = 0x602,
    PM1_CONTROL = 0x604,
    POWER_BUTTON = 0x100,
    CMOS_INDEX = 0x70,
    CMOS_DATA = 0x71
};
enum { LONGEST_STAY = 100000000 };
enum { CMOS_SPARE = 0x50, RESET_MARK = 0x5a };

static void out8(unsigned short port, unsigned char value) { __asm__ volatile("outb %0,%1" ::"a"(value), "Nd"(port)); }
static void out16(unsigned short port, unsigned short value) {
    __asm__ volatile("outw %0,%1" ::"a"(value), "Nd"(port));
}
static void out32(unsigned short port, unsigned value) { __asm__ volatile("outl %0,%1" ::"a"(value), "Nd"(port)); }
static unsigned char in8(unsigned short port) {
    unsigned char value;
    __asm__ volatile("inb %1,%0" : "=a"(value) : "Nd"(port));
    return value;
}
static unsigned short in16(unsigned short port) {
    unsigned short value;
    __asm__ volatile("inw %1,%0" : "=a"(value) : "Nd"(port));
    return value;
}
static unsigned in32(unsigned short port) {
    unsigned value;
    __asm__ volatile("inl %1,%0" : "=a"(value) : "Nd"(port));
    return value;
}

static void say(const char *text) {
    while (*text)
        out8(SERIAL, (unsigned char)*text++);
}

static void say_hex(unsigned value, int digits) {
    while (digits--)
        out8(SERIAL, (unsigned char)"0123456789abcdef"[(value >> (digits * 4)) & 15]);
}

static int has_word(const char *text, const char *word) {
    for (; *text; text++) {
        int n = 0;
        while (word[n] && text[n] == word[n])
            n++;
        if (!word[n])
            return 1;
    }
    return 0;
}

static unsigned read_config(unsigned bus, unsigned device, unsigned function, unsigned offset) {
    out32(0xcf8, 0x80000000u | bus << 16 | device << 11 | function << 8 | offset);
    return in32(0xcfc);
}

static void say_devices(void) {
    for (unsigned bus = 0; bus < 8; bus++)
        for (unsigned device = 0; device < 32; device++)
            for (unsigned function = 0; function < 8; function++) {
                unsigned id = read_config(bus, device, function, 0);
                if ((id & 0xffff) == 0xffff)
                    continue;
                say("PCI ");
                say_hex(bus, 2);
                say(":");
                say_hex(device, 2);
                say(".");
                say_hex(function, 1);
                say(" ");
                say_hex(id & 0xffff, 4);
                say(":");
                say_hex(id >> 16, 4);
                say("\r\n");
            }
}

static void stay(void) {
    out16(PM1_ENABLE, POWER_BUTTON);
    for (unsigned n = 0;; n++) {
        if (in16(PM1_STATUS) & POWER_BUTTON) {
            say("POWER-BUTTON\r\n");
            out16(PM1_CONTROL, 0x2000);
        }
        if (n == LONGEST_STAY) /* nobody has come for it */
            out16(PM1_CONTROL, 0x2000);
        if (n % 200000 == 0)
            say(".");
        if (n % 20000000 == 0)
            say("\r\n");
    }
}

static int was_reset(void) {
    out8(CMOS_INDEX, CMOS_SPARE);
    return in8(CMOS_DATA) == RESET_MARK;
}

static void reset(void) {
    out8(CMOS_INDEX, CMOS_SPARE);
    out8(CMOS_DATA, RESET_MARK);
    say("RESET\r\n");
    out8(0x64, 0xfe);
    for (;;)
        __asm__ volatile("hlt");
}

void begin(const unsigned *boot);
void begin(const unsigned *boot) {
    const char *words = boot[0] & 4 ? (const char *)boot[4] : "";

    say("TINY-GUEST-UP ");
    say(words);
    say("\r\n");
    say_devices();
    if (has_word(words, " reset") && !was_reset())
        reset();
    say("TINY-GUEST-READY\r\n");
    if (has_word(words, " off"))
        out16(PM1_CONTROL, 0x2000);
    stay();
}

__asm__(".section .text.start\n.globl _start\n_start: mov $0x180000,%esp\n push %ebx\n cld\n call begin\n1: hlt\n jmp "
        "1b\n");
