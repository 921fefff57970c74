/* A quicksort that leaves parts of at most INSERTION elements to an insertion sort. */
static void insert(float *y, int n)
{
    for (int i = 1; i < n; i++) {
        float value = y[i];
        int at = i;
        for (; at > 0 && y[at - 1] > value; at--)
            y[at] = y[at - 1];
        y[at] = value;
    }
}

static void quick(float *y, int n)
{
    while (n > INSERTION) {
        float a = y[0], b = y[n / 2], c = y[n - 1];
        float pivot = a < b ? (b < c ? b : a < c ? c : a) : (a < c ? a : b < c ? c : b);
        int low = 0, high = n - 1;
        while (low <= high) {
            while (y[low] < pivot)
                low++;
            while (y[high] > pivot)
                high--;
            if (low <= high) {
                float swapped = y[low];
                y[low++] = y[high];
                y[high--] = swapped;
            }
        }
        /* The smaller part first, so that the stack stays small. */
        if (high + 1 < n - low) {
            quick(y, high + 1);
            y += low;
            n -= low;
        } else {
            quick(y + low, n - low);
            n = high + 1;
        }
    }
    insert(y, n);
}

void sort(const float *x, float *y, int n)
{
    for (int i = 0; i < n; i++)
        y[i] = x[i];
    quick(y, n);
}
